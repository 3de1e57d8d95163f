//go:build faults

package faults

import (
	"strings"
	"testing"
)

// A thief who was faster with an invitation holds the place that it was for.
// Whoever it was for is refused, which is an alarm and in the audit log; the
// thief is removed, and is of no use to itself from then on, also where it runs.
func TestAStolenInvitationIsNoticedAndItsThiefRemoved(t *testing.T) {
	t.Parallel()
	first := newNode(t, "mail: {alarms: [ops@example.eu]}\n"+doorsOf(t, "node-1"))
	first.start()
	thief, rightful := newProcess(t, "node-2"), newProcess(t, "node-2")
	token := strings.Fields(first.say("node", "invite", "node-2", "--roles", "gateway"))[0]
	if s := thief.run("node", "join", token, "--config", thief.config); s.code != 0 {
		t.Fatal(s.err)
	}
	s := rightful.run("node", "join", token, "--config", rightful.config)
	if s.code == 0 || !strings.Contains(s.err, "The invitation is not good") {
		t.Fatalf("it was used twice: %d: %s%s", s.code, s.out, s.err)
	}
	seen := func(what, words string, args ...string) {
		t.Helper()
		eventually(t, what, func() (bool, string) {
			s := first.run(args...)
			return s.code == 0 && strings.Contains(s.out, words), s.out + s.err
		})
	}
	seen("the second use to be in the audit log", "used", "audit", "list", "--act", "node.join", "--outcome", "denied", "--json")
	seen("the alarm", "fleet-invitation-refused", "audit", "list", "--act", "alarm.raise", "--json")
	if list := first.say("node", "invitations", "list"); !strings.Contains(list, "used") {
		t.Errorf("the invitation is not said to be used: %s", list)
	}

	first.say("node", "remove", "node-2")
	out := func(when string) {
		t.Helper()
		thief.serve("gateway") // what it has of its own goes on: it has no part in the fleet
		eventually(t, when+", the thief to be out", func() (bool, string) {
			s := thief.run("node", "status")
			return s.code != 0 && strings.Contains(s.out, "was removed from the fleet"), s.out + s.err
		})
		thief.kill()
	}
	out("once removed")
	token = strings.Fields(first.say("node", "invite", "node-2", "--roles", "gateway"))[0]
	eventually(t, "the rightful node to join", func() (bool, string) {
		s := rightful.run("node", "join", token, "--config", rightful.config)
		return s.code == 0, s.err
	})
	out("when its name is another's")
}
