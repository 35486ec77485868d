// Package config is the operator's settings, from flags and from the environment of its pod.
package config

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strconv"

	"go.uber.org/zap/zapcore"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
)

// Config is what the operator can be told.
type Config struct {
	// MetricsAddress serves metrics over HTTPS, to those who may read them. "0" switches them off.
	MetricsAddress string
	// HealthAddress serves /healthz and /readyz. "0" switches them off.
	HealthAddress string
	// ProfilingAddress serves /debug/pprof, to whoever can reach it. Empty for nowhere.
	ProfilingAddress string
	// DispatchAddress serves the agents' sessions; DispatchPort is its port.
	DispatchAddress string
	DispatchPort    int32

	// Namespace, PodName and PodIP are those of the operator's pod.
	Namespace, PodName, PodIP string
	// AgentImage has the agent that is put into worker pods.
	AgentImage string

	// Log sets up the log.
	Log zap.Options
}

// Parse reads the arguments and the environment.
func Parse(args []string, env func(string) string) (Config, error) {
	c := Config{Log: zap.Options{TimeEncoder: zapcore.RFC3339NanoTimeEncoder}}
	flags := flag.NewFlagSet("manager", flag.ContinueOnError)
	flags.StringVar(&c.MetricsAddress, "metrics-bind-address", ":8443", "Where metrics are served, over HTTPS; 0 for nowhere.")
	flags.StringVar(&c.HealthAddress, "health-probe-bind-address", ":8081", "Where /healthz and /readyz are served; 0 for nowhere.")
	flags.StringVar(&c.ProfilingAddress, "pprof-bind-address", "", "Where /debug/pprof is served, to whoever can reach it; empty for nowhere.")
	flags.StringVar(&c.DispatchAddress, "dispatch-bind-address", ":9443", "Where the sessions of agents are served.")
	flags.StringVar(&c.AgentImage, "agent-image", env("AGENT_IMAGE"), "The image with the agent: this very image, as a rule.")
	c.Log.BindFlags(flags)
	if err := flags.Parse(args); err != nil {
		return Config{}, err
	}
	c.Namespace, c.PodName, c.PodIP = env("POD_NAMESPACE"), env("POD_NAME"), env("POD_IP")
	return c, c.validate()
}

func (c *Config) validate() error {
	_, port, err := net.SplitHostPort(c.DispatchAddress)
	if err != nil {
		return fmt.Errorf("--dispatch-bind-address: %w", err)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return fmt.Errorf("--dispatch-bind-address: port %q is not a number from 1 to 65535", port)
	}
	c.DispatchPort = int32(number)
	switch {
	case c.Namespace == "":
		return errors.New("POD_NAMESPACE is not set: the manifest sets it from metadata.namespace")
	case c.PodIP == "":
		return errors.New("POD_IP is not set: the manifest sets it from status.podIP")
	case c.AgentImage == "":
		return errors.New("neither --agent-image nor AGENT_IMAGE is set: the manifest sets it to the operator's image")
	}
	return nil
}

// FromProcess is Parse of this process's arguments and environment.
func FromProcess() (Config, error) { return Parse(os.Args[1:], os.Getenv) }
