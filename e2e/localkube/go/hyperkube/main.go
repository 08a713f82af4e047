// hyperkube is etcd and every Kubernetes component of a node in one program; argv[0] says which one to be.
// One program shares its code pages and is built, cached and unpacked once.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"

	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	var command func() *cobra.Command
	switch name := filepath.Base(os.Args[0]); name {
	case "etcd":
		etcdmain.Main(os.Args)
		return
	case "kube-apiserver":
		command = apiserver.NewAPIServerCommand
	case "kube-controller-manager":
		command = controllermanager.NewControllerManagerCommand
	case "kube-scheduler":
		command = func() *cobra.Command { return scheduler.NewSchedulerCommand() }
	case "kube-proxy":
		command = proxy.NewProxyCommand
	case "kubelet":
		command = func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) }
	default:
		fmt.Fprintf(os.Stderr, "hyperkube: start me as etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kube-proxy or kubelet, not %q\n", name)
		os.Exit(2)
	}
	os.Exit(cli.Run(command()))
}
