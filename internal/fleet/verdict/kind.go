package verdict

import "slices"

// kind is what signals have in common that fail for one cause. Two signals are
// independent when their kinds differ and they do not end at the same place.
type kind string

// kindOf sorts signals by cause. TLS is half of HTTPS; a lease and the answer
// of a node's own Foundry both end with that one process.
func kindOf(signal string) kind {
	switch signal {
	case "lease", "peer":
		return "fleet"
	case "https", "tls":
		return "https"
	}
	return kind(signal)
}

// local reports whether only the host itself can look by this kind, so that
// its word is all there can be.
func (k kind) local() bool { return k == "systemd" }

// condition reports whether a failure says that something is not as it must
// be, and nothing about whether it is there.
func (k kind) condition() bool { return k == "disk" || k == "backup-age" || k == "unreachable" }

// answered lists the causes of failures that only something alive can give. A
// closed port is none of them: whatever stands in the way can say so too.
var answered = []string{"certificate", "tls-version", "status", "content", "redirect", "too-much", "protocol", "read-only", "not-standby",
	"lag", "starting", "busy", "credentials", "auth-methods", "host-key", "no-ref", "no-text"}

// Answered reports whether a failure comes from something that is alive.
func Answered(code string) bool { return slices.Contains(answered, code) }

// reached reports whether a look shows that a machine is alive.
func (l look) reached() bool { return l.OK || Answered(l.Code) }

// independent finds two kinds of signal among looks that do not fail for one
// cause. Each must be seen by enough observers, so that none of them alone can
// add a kind; what only one can see, and a lease, stands by itself.
func independent(looks []look, enough int) bool {
	seen := func(k kind) bool {
		who := map[string]bool{}
		for _, l := range looks {
			if l.kind == k {
				who[l.Observer] = true
			}
		}
		return len(who) >= enough
	}
	for i, a := range looks {
		for _, b := range looks[:i] {
			if a.kind == b.kind || a.Ends != "" && a.Ends == b.Ends {
				continue
			}
			lease := a.Signal == "lease" || b.Signal == "lease"
			if (lease || a.kind.local() || seen(a.kind)) && (lease || b.kind.local() || seen(b.kind)) {
				return true
			}
		}
	}
	return false
}
