"""Programs of one's own over three insurers' secret numbers: an inner product, and a product of three."""
