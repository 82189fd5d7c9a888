"""What a picture looks like to a convolutional network, computed once per picture.

`converter` makes the network (EfficientNet-Lite0) from its packaged checkpoint, `session` asks it, `store` keeps the
answers.
"""
