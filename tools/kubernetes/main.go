// Kubernetes' programs in one: kube-apiserver, kube-controller-manager, kube-scheduler, kube-proxy and kubectl.
//
// They share most of their code, so one program of them all is linked once instead of five times and takes a third of the
// disk. It is the one by whose name it is called (a link), or that its first argument names. Each is upstream's own
// command, unmodified, started as its own main does it.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	_ "time/tzdata" // the time zones of CronJobs, as upstream: a machine may have none

	"github.com/spf13/cobra"
	_ "k8s.io/client-go/plugin/pkg/client/auth"
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	_ "k8s.io/kubernetes/pkg/features"
)

var daemons = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllers.NewControllerManagerCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kube-proxy":              proxy.NewProxyCommand,
}

func main() {
	name := filepath.Base(os.Args[0])
	if !isProgram(name) && len(os.Args) > 1 {
		os.Args = os.Args[1:]
		name = os.Args[0]
	}
	if !isProgram(name) {
		fmt.Fprintf(os.Stderr, "%s: call it by one of these names, or with one as first argument: %s\n", name, strings.Join(programs(), ", "))
		os.Exit(2)
	}
	if name == "kubectl" {
		runKubectl()
		return
	}
	os.Exit(cli.Run(daemons[name]()))
}

func isProgram(name string) bool { return slices.Contains(programs(), name) }

func programs() []string {
	names := []string{"kubectl"}
	for name := range daemons {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func runKubectl() {
	logs.GlogSetter(cmd.GetLogVerbosity(os.Args)) //nolint:errcheck // as upstream: a wrong level shows itself
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err)
	}
}
