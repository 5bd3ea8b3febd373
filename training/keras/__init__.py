"""The part of training that uses TensorFlow and Keras: augmentation, network, fit, conversion."""
