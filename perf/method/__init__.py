"""How the proxy is measured: the parts of `perf/measure`, in the order they are used."""
