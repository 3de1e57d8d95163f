package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"slices"

	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/inference"
)

// reachNode is how this node reaches another one of its fleet, and no other;
// nil while it is in none.
func (d *Daemon) reachNode(node string) *tls.Config {
	m := d.Member()
	if m == nil {
		return nil
	}
	return m.ClientTLS(node)
}

// inferenceAlone reports whether a process is nothing but the front of an
// Ollama, with certificates from files: it needs no fleet.
func (c Config) inferenceAlone(roles []member.Role) bool {
	return len(roles) == 1 && roles[0] == member.Inference && c.Inference.Certificate != "" && !joined(FleetDir(c.withDefaults().DataDir))
}

// startInferenceAlone brings up the front of an Ollama and nothing else.
func startInferenceAlone(ctx context.Context, o Options, roles []member.Role) (_ *Daemon, err error) {
	d := newDaemon(o)
	d.roles = roles
	d.life, d.stop = context.WithCancel(context.Background())
	d.serving, d.cut = context.WithCancelCause(context.Background())
	defer func() {
		if err != nil {
			_ = d.Stop(context.WithoutCancel(ctx))
		}
	}()
	if d.config.DataDir, err = prepareDir(d.config.DataDir); err != nil {
		return nil, err
	}
	if d.lock, err = takeLock(d.config.DataDir, d.clock()); err != nil {
		return nil, err
	}
	if err := d.lock.describe(holder{PID: os.Getpid(), Since: d.started}); err != nil {
		return nil, err
	}
	return d, d.startInference(ctx)
}

var errNoGateway = errors.New("the node at the other end has not the role gateway")

// startInference begins to answer gateways in front of the Ollama: with the
// fleet's certificates, unless the configuration names others.
func (d *Daemon) startInference(ctx context.Context) error {
	o := inference.Options{Config: d.config.Inference, Version: d.version, Log: d.log, Clock: d.clock}
	if d.Member() != nil {
		o.TLS = inference.TLS{Server: func() *tls.Config { return d.Member().ServerTLS() }, Admit: func(s *tls.ConnectionState) error {
			if _, roles, ok := member.Peer(s); !ok || !slices.Contains(roles, member.Gateway) {
				return errNoGateway
			}
			return nil
		}}
	}
	front, err := inference.Start(ctx, o)
	if err != nil {
		return err
	}
	d.front.Store(front)
	d.running.Go(func() {
		if err := front.Wait(d.life); err != nil {
			d.failed <- err
		}
		<-d.life.Done()
		stop, cancel := context.WithTimeout(context.Background(), drainTimeout)
		defer cancel()
		if err := front.Stop(stop); err != nil {
			d.log.Warn("the front of the Ollama did not stop in order", "error", err)
		}
	})
	return nil
}

// Inference is this process's front of an Ollama; nil without that role.
func (d *Daemon) Inference() *inference.Front { return d.front.Load() }
