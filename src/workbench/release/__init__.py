"""From draft to policy: the gate that tests a draft on the certify split, and the verification of what it wrote."""
