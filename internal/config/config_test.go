package config_test

import (
	"errors"
	"flag"
	"maps"
	"reflect"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/workerpool-dev/workerpool/internal/config"
)

// environment is that of the manifest, with changes; an empty value unsets.
func environment(changes map[string]string) func(string) string {
	env := map[string]string{"POD_NAMESPACE": "ns", "POD_NAME": "manager-0", "POD_IP": "10.1.2.3", "AGENT_IMAGE": "agent:1"}
	maps.Copy(env, changes)
	return func(name string) string { return env[name] }
}

func TestDefaultsComeWithTheEnvironmentOfThePod(t *testing.T) {
	got, err := config.Parse(nil, environment(nil))
	if err != nil {
		t.Fatal(err)
	}
	want := config.Config{
		MetricsAddress: ":8443", HealthAddress: ":8081", DispatchAddress: ":9443", DispatchPort: 9443,
		Namespace: "ns", PodName: "manager-0", PodIP: "10.1.2.3", AgentImage: "agent:1",
	}
	compare(t, got, want)
}

func TestFlagsGoOverDefaultsAndTheEnvironment(t *testing.T) {
	got, err := config.Parse([]string{
		"--metrics-bind-address=0", "--health-probe-bind-address=:1", "--dispatch-bind-address=[::1]:65535",
		"--pprof-bind-address=127.0.0.1:6060", "--agent-image=mine", "--zap-devel",
	}, environment(nil))
	if err != nil {
		t.Fatal(err)
	}
	if !got.Log.Development {
		t.Error("the log's flags are not read")
	}
	want := config.Config{
		MetricsAddress: "0", HealthAddress: ":1", DispatchAddress: "[::1]:65535", DispatchPort: 65535,
		ProfilingAddress: "127.0.0.1:6060",
		Namespace:        "ns", PodName: "manager-0", PodIP: "10.1.2.3", AgentImage: "mine",
	}
	compare(t, got, want)
}

// compare all but the log's options, which hold functions.
func compare(t *testing.T, got, want config.Config) {
	t.Helper()
	got.Log, want.Log = zap.Options{}, zap.Options{}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("parsed %+v, want %+v", got, want)
	}
}

func TestErrorsSayWhatToSet(t *testing.T) {
	cases := map[string]struct {
		args []string
		env  map[string]string
		want string
	}{
		"no port":         {[]string{"--dispatch-bind-address=localhost"}, nil, "--dispatch-bind-address: address localhost: missing port in address"},
		"port by name":    {[]string{"--dispatch-bind-address=:https"}, nil, `--dispatch-bind-address: port "https" is not a number from 1 to 65535`},
		"port 0":          {[]string{"--dispatch-bind-address=:0"}, nil, `--dispatch-bind-address: port "0" is not a number from 1 to 65535`},
		"port 65536":      {[]string{"--dispatch-bind-address=:65536"}, nil, `--dispatch-bind-address: port "65536" is not a number from 1 to 65535`},
		"no namespace":    {nil, map[string]string{"POD_NAMESPACE": ""}, "POD_NAMESPACE is not set: the manifest sets it from metadata.namespace"},
		"no IP":           {nil, map[string]string{"POD_IP": ""}, "POD_IP is not set: the manifest sets it from status.podIP"},
		"no agent image":  {nil, map[string]string{"AGENT_IMAGE": ""}, "neither --agent-image nor AGENT_IMAGE is set: the manifest sets it to the operator's image"},
		"an unknown flag": {[]string{"--surprise"}, nil, "flag provided but not defined: -surprise"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if _, err := config.Parse(c.args, environment(c.env)); err == nil || err.Error() != c.want {
				t.Errorf("the error is %v, want %s", err, c.want)
			}
		})
	}
}

func TestHelpIsTold(t *testing.T) {
	if _, err := config.Parse([]string{"--help"}, environment(nil)); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("the error is %v, want flag.ErrHelp", err)
	}
}
