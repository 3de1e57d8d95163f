package access

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/missionopsai/foundry/internal/audit"
)

// changing are the nouns of the acts that give, change or take access.
var changing = []string{"key", "service-account", "membership", "person", "invitation", "grant", "break-glass",
	"account", "password", "totp", "passkey", "recovery", "bootstrap"}

// explained maps each kind of entry to the nouns of the acts that explain its
// existence or a change of it. person.signin explains nothing: otherwise
// whoever changes a row by hand need only sign in afterwards.
var explained = map[string][]string{
	EntryKey:        {"key", "service-account", "person"},
	EntryService:    {"service-account"},
	EntryMembership: {"membership", "invitation", "person", "bootstrap"},
	EntryInvitation: {"invitation", "person", "bootstrap"},
	EntryPerson:     {"person", "account", "password", "totp", "passkey", "recovery", "invitation", "bootstrap"},
	EntryGrant:      {"grant", "break-glass"},
}

// powerless are acts that give nobody anything.
var powerless = []string{"person.signin", "person.list", "person.read", "grant.use", "grant.list", "grant.read", "key.list", "membership.list", "invitation.list"}

// acts finds acts by what they were done to, and by who did them.
type acts struct{ byTarget, byActor map[string][]*audit.Change }

func index(changes []audit.Change) acts {
	a := acts{map[string][]*audit.Change{}, map[string][]*audit.Change{}}
	for i := range changes {
		c := &changes[i]
		if slices.Contains(powerless, c.Act) {
			continue
		}
		a.byTarget[c.Target] = append(a.byTarget[c.Target], c)
		a.byActor[c.Actor] = append(a.byActor[c.Actor], c)
	}
	return a
}

// of finds the last act that explains an entry; nil when there is none. An act
// on somebody explains their entries; an act of somebody does so only where
// people act on their own account, or accept an invitation.
func (a acts) of(e *Access) (found *audit.Change) {
	nouns := explained[e.Kind]
	look := func(list []*audit.Change, fits func(*audit.Change) bool) {
		for _, c := range list {
			noun, _, _ := strings.Cut(c.Act, ".")
			if slices.Contains(nouns, noun) && fits(c) && (found == nil || found.At.Before(c.At)) {
				found = c
			}
		}
	}
	any := func(*audit.Change) bool { return true }
	look(a.byTarget[e.ID], any)
	for _, t := range e.related {
		look(a.byTarget[t], any)
	}
	switch e.Kind {
	case EntryPerson:
		look(a.byActor[e.Subject], func(c *audit.Change) bool {
			return c.Target == "" || c.Target == e.ID || !strings.HasPrefix(c.Act, "person.")
		})
	case EntryMembership:
		look(a.byActor[e.Subject], func(c *audit.Change) bool { return strings.HasPrefix(c.Act, "invitation.") })
	}
	return found
}

// explain compares what is with what was, and gives each entry its reason. An
// entry that is unexplained stays so, in every later picture, until it is gone
// by an act or somebody confirms it as it is.
func explain(now, past []Access, changes []audit.Change, confirmed map[string]bool, logins []string) []Access {
	why := index(changes)
	before := make(map[string]*Access, len(past))
	for i := range past {
		before[past[i].key()] = &past[i]
	}
	out := make([]Access, 0, len(now))
	for _, e := range now {
		was := before[e.key()]
		delete(before, e.key())
		act := why.of(&e)
		if was != nil {
			e.Why, e.Unexplained = was.Why, was.Unexplained
		}
		changed := was == nil || was.Unexplained == UnexplainedGone || was.Digest() != e.Digest()
		switch {
		case act != nil && (changed || e.Why == ""):
			e.Why = fmt.Sprintf("%s by %s (%s)", act.Act, act.Actor, act.ID)
		case !changed:
		case e.Kind == EntryOSUser:
			e.Why = "owns the local socket, or is root"
		case e.Kind == EntryDatabaseRole && slices.Contains(logins, e.ID) && was == nil:
			e.Why = "made by the installation"
		case was == nil || was.Unexplained == UnexplainedGone:
			e.Unexplained = UnexplainedMade
		case was.Unexplained == "":
			e.Unexplained = UnexplainedChanged
		}
		if confirmed[e.Digest()] {
			e.Unexplained = ""
			if e.Why == "" {
				e.Why = "confirmed in a review"
			}
		}
		out = append(out, e)
	}
	for _, was := range before { // gone
		switch {
		case was.Unexplained == UnexplainedGone: // already reported
		case was.Kind == EntryOSUser || why.of(was) != nil:
			continue
		default:
			gone := Access{Kind: was.Kind, ID: was.ID, Organisation: was.Organisation, facts: "gone since " + was.Digest()}
			was.digest, was.Unexplained, was.Open = gone.Digest(), UnexplainedGone, false
		}
		if !confirmed[was.digest] {
			out = append(out, *was)
		}
	}
	return out
}

// socket reads who may use the local socket.
func (s *Register) socket(r *RegisterReport) []Access {
	if s.Socket == "" {
		return nil
	}
	info, err := os.Lstat(s.Socket)
	if err != nil {
		r.Findings = append(r.Findings, Finding{Code: FindingSocket, Kind: EntryOSUser, ID: "socket",
			Detail: "The local socket cannot be looked at.", Mend: "See whether the node may read its data directory."})
		return nil
	}
	if info.Mode()&fs.ModeSocket == 0 || info.Mode().Perm()&0o077 != 0 {
		r.Findings = append(r.Findings, Finding{Code: FindingSocket, Kind: EntryOSUser, ID: "socket",
			Detail: fmt.Sprintf("The local socket has mode %s: others than its owner may use it.", info.Mode()),
			Mend:   "chmod 0600 it, and find out who changed it."})
	}
	users := []int{0}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 {
		users = append(users, int(st.Uid))
	}
	var out []Access
	for _, uid := range users {
		id := strconv.Itoa(uid)
		out = append(out, Access{Kind: EntryOSUser, ID: id, Subject: "local:uid=" + id, What: "local socket", Open: true, facts: "socket"})
	}
	return out
}
