// Makes the curves explorable: a mark on the picture, moved by pointer or keys, and in words what was counted there.
// Every point, and every figure of it, was computed before the page was written; without this script the pictures stand.
(() => {
  const curves = JSON.parse(document.getElementById("curve-points").textContent);
  const number = (value) => value.toLocaleString("en");
  const rate = ([value, low, high]) => `${value.toFixed(1)} % (${low.toFixed(1)} to ${high.toFixed(1)} %)`;

  const explore = (figure, { frame: [left, top, width, height], points, positives, images }) => {
    const picture = figure.querySelector("picture");
    const title = figure.querySelector("bdi").textContent;
    const last = points.length - 1;
    let place = last;
    const mark = document.createElement("span");
    mark.className = "at";
    const words = document.createElement("p");
    words.className = "soft there";
    const slider = document.createElement("div");
    slider.className = "explored";
    slider.tabIndex = 0;
    const told = {
      role: "slider", "aria-label": `Threshold on the curve of ${title}`, "aria-valuemin": points[0].threshold, "aria-valuemax": points[last].threshold,
    };
    for (const [name, value] of Object.entries(told)) slider.setAttribute(name, value);
    picture.replaceWith(slider);
    slider.append(picture, mark);
    slider.after(words);

    const x = ({ recall }) => left + (width * recall[0]) / 100;
    const y = ({ precision }) => top + height * (1 - precision[0] / 100);
    const show = (wanted) => {
      place = Math.min(last, Math.max(0, wanted));
      const point = points[place];
      mark.style.left = `${100 * x(point)}%`;
      mark.style.top = `${100 * y(point)}%`;
      mark.hidden = false;
      const tiers = point.tiers ? `${point.tiers.join(", ")}: ` : "";
      const said = `${tiers}from ${point.threshold} up: precision ${rate(point.precision)}, recall ${rate(point.recall)}; ` +
        `${number(point.right)} of ${number(point.told)} right, ${number(positives)} of ${number(images)} images show it`;
      words.textContent = said;
      slider.setAttribute("aria-valuenow", point.threshold);
      slider.setAttribute("aria-valuetext", said);
    };
    const nearest = ({ clientX, clientY }) => {
      const box = slider.getBoundingClientRect();
      const away = (point) => ((x(point) * box.width) - (clientX - box.left)) ** 2 + ((y(point) * box.height) - (clientY - box.top)) ** 2;
      return points.reduce((best, point, at) => (away(point) < away(points[best]) ? at : best), 0);
    };
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -Infinity, End: Infinity };
    slider.addEventListener("keydown", (event) => {
      if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      show(place + steps[event.key] * (event.shiftKey ? 10 : 1));
    });
    slider.addEventListener("pointermove", (event) => show(nearest(event)));
    slider.addEventListener("pointerdown", (event) => show(nearest(event)));
    slider.addEventListener("focus", () => show(place));
    mark.hidden = true;
    words.textContent = "Point at the curve, or step along it with the arrow keys.";
    slider.setAttribute("aria-valuenow", points[place].threshold);
    slider.setAttribute("aria-valuetext", words.textContent);
  };

  for (const figure of document.querySelectorAll("[data-curve]")) explore(figure, curves[figure.dataset.curve]);
})();
