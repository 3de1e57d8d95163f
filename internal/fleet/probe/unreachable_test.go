package probe

import (
	"context"
	"net"
	"strings"
	"testing"
)

func TestWhatMustNotBeReachedPassesOnlyWhileSomethingElseIsReached(t *testing.T) {
	open := silentPort(t)
	control := " control=127.0.0.1:" + silentPort(t)
	dead := " control=127.0.0.1:" + closedPort(t)
	for _, c := range []struct {
		name, target string
		code         Code
		unknown      bool
		says         string
	}{
		{"it cannot be connected to", "127.0.0.1:" + closedPort(t) + control, "", false, "cannot be connected to (refused), while"},
		{"it can", "127.0.0.1:" + open + control, Reachable, false, "must not be reachable"},
		{"it can, and the control cannot", "127.0.0.1:" + open + dead, Reachable, false, ""},
		{"nothing can", "127.0.0.1:" + closedPort(t) + dead, NoControl, true, "without a network"},
		{"there is no control", "127.0.0.1:" + closedPort(t), NoControl, true, ""},
		{"one of two controls", "127.0.0.1:" + closedPort(t) + dead + "," + strings.TrimPrefix(control, " control="), "", false, ""},
		{"the target is its own control", "127.0.0.1:" + open + " control=127.0.0.1:" + open, Reachable, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Run(t.Context(), Spec{Name: "p", Kind: Unreachable, Target: c.target, Timeout: generous}, Env{})
			if r.Code != c.code || r.Inconclusive != c.unknown || r.OK != (c.code == "") || !strings.Contains(r.Words, c.says) {
				t.Fatalf("%+v", r)
			}
		})
	}
	t.Run("peers of the node are controls", func(t *testing.T) {
		e := Env{Control: []string{strings.TrimPrefix(control, " control=")}}
		expect(t, Unreachable, "127.0.0.1:"+closedPort(t), e, "")
	})
	t.Run("a name that does not resolve proves nothing", func(t *testing.T) {
		e := Env{Address: func(string) (string, bool) { return "surely not a name", true }}
		if r := Run(t.Context(), Spec{Name: "p", Kind: Unreachable, Target: "node-3:22" + control, Timeout: generous}, e); !r.Inconclusive || r.OK {
			t.Fatalf("%+v", r)
		}
	})
	t.Run("a look that is broken off proves nothing", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if r := Run(ctx, Spec{Name: "p", Kind: Unreachable, Target: "127.0.0.1:" + closedPort(t) + control}, Env{}); !r.Inconclusive || r.OK {
			t.Fatalf("%+v", r)
		}
	})
}

func TestWhatMustNotBeReachedOverUDP(t *testing.T) {
	control := " control=127.0.0.1:" + silentPort(t)
	z := &zone{t: t, records: records()}
	dns := portOf(net.TCPAddrFromAddrPort(z.serve("127.0.0.1", 0)))
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	gone, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := portOf(gone.LocalAddr())
	gone.Close()
	for _, c := range []struct {
		name, target string
		code         Code
		unknown      bool
	}{
		{"a server answers", dns + " protocol=udp send=dns", Reachable, false},
		{"nobody answers what a server would", portOf(silent.LocalAddr()) + " protocol=udp send=dns", "", false},
		{"nobody answers what no server need", portOf(silent.LocalAddr()) + " protocol=udp", Timeout, true},
		{"the machine says that nobody is there", refused + " protocol=udp", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Run(t.Context(), Spec{Name: "p", Kind: Unreachable, Target: "127.0.0.1:" + c.target + control, Timeout: generous}, Env{})
			if r.Code != c.code || r.Inconclusive != c.unknown || r.OK != (c.code == "") {
				t.Fatalf("%+v", r)
			}
		})
	}
}
