"""A real single-node Kubernetes on this machine, from package registries only.

Two forms share the same binaries:

* ``e2e.localkube.light`` – etcd and kube-apiserver only, for tests of the API (a few seconds, no root).
* ``python -m e2e.localkube up`` – the whole cluster that runs pods: kubelet, containerd, kube-proxy, CoreDNS.
"""
