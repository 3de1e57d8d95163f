// Package supplier knows how servers of suppliers are switched off, and how that
// is shown; how one is provided; and what that costs.
//
// A server counts as off only when its supplier was asked afterwards and said so,
// twice and some time apart. A supplier that does not say how the power of a
// server stands gives no receipt, whatever it was told to do (invariant 8).
package supplier

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// What can go wrong. Errors of this package wrap one of them.
var (
	ErrBlind       = errors.New("the supplier does not say how the power of this server stands")
	ErrNotOff      = errors.New("the server is not off")
	ErrKey         = errors.New("the supplier does not accept the credentials")
	ErrRefused     = errors.New("the supplier refuses")
	ErrAbsent      = errors.New("the supplier has no such thing")
	ErrBusy        = errors.New("the supplier is busy, or was asked too often")
	ErrUnreachable = errors.New("the supplier cannot be reached")
	ErrUnknown     = errors.New("nobody knows whether the supplier did it")
	ErrCost        = errors.New("it costs more than is allowed")
	ErrByHand      = errors.New("people do this with this supplier")
)

// Power is how the power of a server stands.
type Power string

// What a supplier can say of the power of a server.
const (
	On            Power = "on"
	Off           Power = "off"
	Changing      Power = "changing"      // it is being switched, moved or built
	Indeterminate Power = "indeterminate" // the supplier does not say
)

// Reading is what a supplier said, and when.
type Reading struct {
	Power Power     `json:"power"`
	Says  string    `json:"says"` // the supplier's own word
	At    time.Time `json:"at"`
}

// Act is what can be done to the power of a server.
type Act string

// Acts.
const (
	PowerOff Act = "off"   // at once, without asking the operating system
	PowerOn  Act = "on"    //
	Reset    Act = "reset" // off and on
)

// Machines is a supplier's interface. There are two: Cloud and Robot. Both pass
// the suite in suppliertest.
type Machines interface {
	// Power asks the supplier how a server stands.
	Power(ctx context.Context, server string) (Reading, error)

	// Act asks for something and waits until the supplier says that it is done.
	// ErrUnknown means that it may have been done.
	Act(ctx context.Context, server string, act Act) error

	// Check reports what an operator has set up wrongly, without asking anybody.
	Check() error
}

// Receipt shows that a server is off.
type Receipt struct {
	Server  string    `json:"server"`
	Already bool      `json:"already,omitempty"` // it was off when it was first looked at
	Asked   time.Time `json:"asked_at,omitzero"` // to switch off, for the last time
	First   Reading   `json:"first"`
	Second  Reading   `json:"second"`
}

// Facts is the receipt as a step of a recovery keeps it.
func (r Receipt) Facts() map[string]string {
	out := map[string]string{"server": r.Server, "state": string(r.Second.Power), "supplier_says": r.Second.Says,
		"first_read_at": stamp(r.First.At), "second_read_at": stamp(r.Second.At)}
	if !r.Asked.IsZero() {
		out["asked_at"] = stamp(r.Asked)
	}
	if r.Already {
		out["already_off"] = "yes"
	}
	return out
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// Options say how a server is switched off. The zero value is for use.
type Options struct {
	Apart    time.Duration // between the two readings; default 5 s
	Every    time.Duration // between looks while it goes off; default 2 s
	Patience time.Duration // for it to go off after it was asked; default 1 m
	Times    int           // how often it is asked; default 3
	Clock    func() time.Time
	Wait     func(ctx context.Context, d time.Duration) error
}

func (o Options) withDefaults() Options {
	set := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	set(&o.Apart, 5*time.Second)
	set(&o.Every, 2*time.Second)
	set(&o.Patience, time.Minute)
	if o.Times <= 0 {
		o.Times = 3
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Wait == nil {
		o.Wait = wait
	}
	return o
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// SwitchOff switches a server off and gives a receipt once it was read back as
// off, twice. It looks before it does: a server that is off is not touched, and
// one of whose power nothing can be known is not either, because its button
// would as well switch it on.
func SwitchOff(ctx context.Context, m Machines, server string, o Options) (Receipt, error) {
	o = o.withDefaults()
	r := Receipt{Server: server}
	first, err := look(ctx, m, server, o)
	if err != nil {
		return r, err
	}
	r.Already = first.Power == Off
	for range o.Times {
		if first.Power != Off {
			r.Asked = o.Clock()
			if err := ask(ctx, m, server, o); err != nil {
				return r, err
			}
			if first, err = goesOff(ctx, m, server, o); err != nil {
				return r, err
			}
			if first.Power != Off {
				continue // the supplier said that it was done
			}
		}
		if err := o.Wait(ctx, o.Apart); err != nil {
			return r, err
		}
		second, err := look(ctx, m, server, o)
		if err != nil {
			return r, err
		}
		if second.Power == Off && second.At.After(first.At) {
			r.First, r.Second = first, second
			return r, nil
		}
		first = second // something has switched it on again
	}
	return r, problem.New(problem.Conflict, "supplier-not-off", fmt.Sprintf("The server %s was told %d times to go off, and its supplier says that it is %s (%.40s).", server, o.Times, first.Power, first.Says)).
		WithMend("Switch it off in the supplier's console, or have it cut off from its network, and look again.").Wrap(ErrNotOff)
}

// ask switches off. An answer that was lost is no failure: what counts is read
// back.
func ask(ctx context.Context, m Machines, server string, o Options) error {
	err := m.Act(ctx, server, PowerOff)
	for tries := 1; errors.Is(err, ErrBusy) && tries < o.Times; tries++ {
		if err := o.Wait(ctx, later(err, o.Every)); err != nil {
			return err
		}
		err = m.Act(ctx, server, PowerOff)
	}
	if errors.Is(err, ErrUnknown) {
		return nil
	}
	return err
}

// goesOff looks until the server is off, or nobody waits for it any more.
func goesOff(ctx context.Context, m Machines, server string, o Options) (r Reading, err error) {
	for until := o.Clock().Add(o.Patience); ; {
		if r, err = look(ctx, m, server, o); err != nil || r.Power == Off || !o.Clock().Before(until) {
			return r, err
		}
		if err := o.Wait(ctx, o.Every); err != nil {
			return r, err
		}
	}
}

// look asks how a server stands, for as long as the supplier does not answer.
func look(ctx context.Context, m Machines, server string, o Options) (Reading, error) {
	for {
		r, err := m.Power(ctx, server)
		switch {
		case err == nil && r.Power == Indeterminate:
			return r, problem.New(problem.Unsupported, "supplier-power-indeterminate", fmt.Sprintf("The supplier does not say how the power of the server %s stands (%.40s): nothing was switched, and nothing would show that it is off.", server, r.Says)).
				WithMend("Fence it another way: wait for its lease, or have somebody switch it off and say what shows it.").Wrap(ErrBlind)
		case err == nil:
			return r, nil
		case !errors.Is(err, ErrBusy) && !errors.Is(err, ErrUnreachable):
			return r, err
		}
		if wait := o.Wait(ctx, later(err, o.Every)); wait != nil {
			return r, err // what the supplier said last says more than that the time is over
		}
	}
}

// later is how long the supplier wants to be left alone.
func later(err error, least time.Duration) time.Duration {
	var p *problem.Error
	if errors.As(err, &p) && p.RetryAfter > least {
		return p.RetryAfter
	}
	return least
}
