"""What applications share that speak HTTP: reading bodies, writing answers, finding what arguments name."""
