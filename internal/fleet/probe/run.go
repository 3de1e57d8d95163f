package probe

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// look is one look at one target.
type look struct {
	spec  Spec
	t     Target
	env   Env
	facts map[string]string
}

// finding is what a look came to.
type finding struct {
	ok, unknown bool
	code        Code
	words       string
}

func good(format string, args ...any) finding {
	return finding{ok: true, words: fmt.Sprintf(format, args...)}
}

func bad(code Code, format string, args ...any) finding {
	return finding{code: code, words: fmt.Sprintf(format, args...)}
}

// unknown is a look from which nothing follows.
func unknown(code Code, format string, args ...any) finding {
	return finding{unknown: true, code: code, words: fmt.Sprintf(format, args...)}
}

// fact notes something seen. Text from outside is bounded and made readable.
func (l *look) fact(name, value string) {
	if value = clean(value, 200); value != "" && len(l.facts) < 40 {
		l.facts[name] = value
	}
}

// kinds are how each kind looks.
func (l *look) at(ctx context.Context) finding {
	switch l.t.Kind {
	case HTTPS:
		return l.web(ctx)
	case TCP:
		return l.tcp(ctx)
	case TLS:
		return l.tls(ctx)
	case DNS:
		return l.dns(ctx)
	case SMTP:
		return l.smtp(ctx)
	case PostgreSQL:
		return l.postgresql(ctx)
	case SSH:
		return l.ssh(ctx)
	case Systemd:
		return l.systemd(ctx)
	case Git:
		return l.git(ctx)
	case Disk:
		return l.disk(ctx)
	case BackupAge:
		return l.backupAge(ctx)
	case Model:
		return l.model(ctx)
	case Unreachable:
		return l.unreachable(ctx)
	}
	return unknown(BadTarget, "There is no such kind of probe.")
}

// Run looks once, within the timeout of the spec or of ctx, whichever is
// shorter, and always returns by then.
func Run(ctx context.Context, s Spec, e Env) Result {
	r := Result{Probe: s.Name, Function: s.Function, Node: s.Node, Outside: s.Outside, Signal: s.Kind, At: e.now(), Tries: 1}
	began := time.Now()
	t, err := Parse(s.Kind, s.Target)
	if err != nil {
		r.Inconclusive, r.Code, r.Words = true, BadTarget, "The target cannot be read: "+problem.From(err).Detail
		return r
	}
	timeout := s.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout(s.Kind)
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	l := &look{spec: s, t: t, env: e, facts: map[string]string{}}
	f := l.at(limited)
	if !f.ok && errors.Is(ctx.Err(), context.Canceled) {
		f = unknown(Stopped, "The look was broken off before anything was known.")
	}
	r.Took = time.Since(began)
	r.OK, r.Inconclusive, r.Code, r.Words = f.ok, f.unknown, f.code, clean(f.words, 400)
	if len(l.facts) > 0 {
		r.Facts = l.facts
	}
	return r
}

// DefaultTimeout is how long a look of a kind may take where nothing says.
func DefaultTimeout(kind Signal) time.Duration {
	if g := grammarOf(kind); g != nil {
		return time.Duration(g.timeout) * time.Second
	}
	return 3 * time.Second
}
