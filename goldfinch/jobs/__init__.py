"""Many documents: which are meant, where their caches go, computing them one after the other, renewing them."""
