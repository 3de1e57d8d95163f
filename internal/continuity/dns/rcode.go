package dns

import (
	"encoding/hex"
	"fmt"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/missionopsai/foundry/internal/problem"
)

// refusal says in words what a server's answer means; nil: it agreed, or there
// is no such name.
func (u *Update) refusal(zone string, a *mdns.Msg, now time.Time) error {
	if t := a.IsTsig(); t != nil && t.Error != mdns.RcodeSuccess {
		return u.keyRefusal(t, now)
	}
	made := func(kind problem.Kind, code, detail, mend string, cause error) error {
		return problem.New(kind, code, detail).WithMend(mend).Wrap(cause)
	}
	name := mdns.RcodeToString[a.Rcode]
	switch a.Rcode {
	case mdns.RcodeSuccess:
		return nil
	case mdns.RcodeNameError:
		if a.Opcode == mdns.OpcodeQuery {
			return nil
		}
		fallthrough
	case mdns.RcodeYXDomain, mdns.RcodeYXRrset, mdns.RcodeNXRrset:
		return made(problem.Conflict, "dns-lost-race", fmt.Sprintf("The zone %s is no longer as it was when the cutover was prepared (%s): the server made no change.", zone, name),
			"Prepare the cutover again, and look at what has changed.", ErrLostRace)
	case mdns.RcodeRefused:
		return made(problem.Denied, "dns-refused", fmt.Sprintf("%s refuses to change the zone %s (REFUSED).", u.Server, zone),
			"Let the key update these names: `acl` with `action: update` in Knot, `update-policy` in BIND.", ErrRefused)
	case mdns.RcodeNotAuth:
		return made(problem.Denied, "dns-not-authority", fmt.Sprintf("%s does not answer for the zone %s, or does not know the key (NOTAUTH).", u.Server, zone),
			"Name the zone's primary server; compare the zone's name and the key's.", ErrRefused)
	case mdns.RcodeNotZone:
		return made(problem.Invalid, "dns-not-zone", fmt.Sprintf("A name of the cutover is not in the zone %s (NOTZONE).", zone),
			"A part of the zone may be delegated: name that zone of its own.", ErrRefused)
	case mdns.RcodeServerFailure:
		return made(problem.Unavailable, "dns-server-failure", fmt.Sprintf("%s could not do it (SERVFAIL).", u.Server), "Look into the server's log.", ErrUnreachable)
	case mdns.RcodeNotImplemented, mdns.RcodeFormatError:
		return made(problem.Unsupported, "dns-unsupported", fmt.Sprintf("%s does not understand dynamic updates (%s).", u.Server, name), "Name a server that allows RFC 2136 updates.", ErrRefused)
	}
	return made(problem.Upstream, "dns-rcode", fmt.Sprintf("%s answered %s.", u.Server, name), "Look into the server's log.", ErrRefused)
}

// keyRefusal is what went wrong with the signature (RFC 8945 section 5.2). A
// server that does not know the key cannot sign that it does not.
func (u *Update) keyRefusal(t *mdns.TSIG, now time.Time) error {
	switch t.Error {
	case mdns.RcodeBadTime:
		detail := "The clocks of this node and of " + u.Server + " are more than five minutes apart (BADTIME)."
		if there, ok := serverTime(t.OtherData); ok {
			detail = fmt.Sprintf("This node's clock is %s %s that of %s, and five minutes are allowed (BADTIME).", now.Sub(there).Abs().Round(time.Second), beforeOrBehind(now.Sub(there)), u.Server)
		}
		return problem.New(problem.Conflict, "dns-clock", detail).WithMend("Set the clock that is wrong; look at `timedatectl` on both.").Wrap(ErrClock)
	case mdns.RcodeBadKey:
		return problem.New(problem.Denied, "dns-key-unknown", fmt.Sprintf("%s does not know the key %q for this (BADKEY).", u.Server, u.KeyName)).
			WithMend("Compare the key's name and algorithm with the server's configuration, and let it update these names: some servers answer so to a key that may not.").Wrap(ErrKey)
	}
	return problem.New(problem.Denied, "dns-key-wrong", fmt.Sprintf("%s knows a key %q, and it is another one (%s).", u.Server, u.KeyName, mdns.RcodeToString[int(t.Error)])).
		WithMend("Compare the secret with the server's configuration.").Wrap(ErrKey)
}

func beforeOrBehind(d time.Duration) string {
	if d < 0 {
		return "behind"
	}
	return "ahead of"
}

// serverTime reads the six bytes of seconds that come with BADTIME (RFC 8945
// section 5.2.3).
func serverTime(other string) (time.Time, bool) {
	b, err := hex.DecodeString(other)
	if err != nil || len(b) != 6 {
		return time.Time{}, false
	}
	var n int64
	for _, c := range b {
		n = n<<8 | int64(c)
	}
	return time.Unix(n, 0), true
}

func unreachable(server string, err error) error {
	return problem.New(problem.Unavailable, "dns-unreachable", "The name server "+server+" cannot be reached, or did not answer in time.").
		WithMend("Look whether it runs, and whether TCP on its port gets through.").Wrap(fmt.Errorf("%w: %w", ErrUnreachable, err))
}

// forged is an answer that nobody with the key has written.
func forged(server string) error {
	return problem.New(problem.Upstream, "dns-answer-unsigned", "An answer that claims to come from "+server+" is not signed with the key: it counts for nothing.").
		WithMend("Something between this node and the server answers for it, or the server does not sign.").Wrap(ErrUnreachable)
}
