"""Every way to classify an image: the contract is in `base`, then one file per approach."""
