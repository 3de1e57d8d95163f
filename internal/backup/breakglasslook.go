package backup

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/backup/kit"
	"github.com/missionopsai/foundry/internal/principal"
)

// seenWithin is how old the last look at a copy may be: the kit is made anew,
// and read back, every hour.
const seenWithin = 3 * kitAge

// tonight answers, in a sentence that begins with the answer, whether the kit
// could be opened now. Only what was tried counts: that a kit exists and lies
// somewhere says nothing about whether the shares open it.
func (s *GlassStatus) tonight() Verdict {
	seen, where := s.seen()
	d := s.LastDrill
	switch {
	case s.Set == "":
		return Verdict{Fail, "No. There is no recovery key: nobody could open anything.", "foundry breakglass create"}
	case where == "":
		return Verdict{Fail, "No. " + s.Reason, "foundry breakglass status"}
	case d != nil && d.Set == s.Set && d.Outcome == Fail:
		return Verdict{Fail, "No. The last drill with this key failed: " + d.Reason, "foundry breakglass drill --kit FILE"}
	case d == nil || d.Set != s.Set:
		return Verdict{Inconclusive, fmt.Sprintf("Nobody knows. Nobody has tried the shares of set %s yet.", s.Set), "foundry breakglass drill --kit FILE"}
	case d.Outcome != Pass:
		return Verdict{Inconclusive, "Nobody knows. The last drill proved nothing: " + d.Reason, "foundry breakglass drill --kit FILE"}
	case s.At.Sub(d.At) > drillMost:
		return Verdict{Inconclusive, fmt.Sprintf("Nobody knows. The last drill that passed is of %s, more than a year ago.", stamp(d.At)), "foundry breakglass drill --kit FILE"}
	case seen.IsZero() || s.At.Sub(seen) > seenWithin:
		return Verdict{Inconclusive, "Nobody knows. No copy of the kit was read for " + inWords(s.At.Sub(cmpTime(seen, s.Created)).Seconds()) + ".", "foundry breakglass look"}
	}
	v := Verdict{Outcome: Pass, Reason: fmt.Sprintf("Yes, if %d of the %d holders come: their shares were tried %s ago, and the kit was read at %s %s ago.", s.Threshold, s.Shares,
		inWords(s.At.Sub(d.At).Seconds()), where, inWords(s.At.Sub(seen).Seconds()))}
	if len(s.Changed) > 0 {
		v.Reason += " Since then the kit has changed."
	}
	return v
}

func cmpTime(t, otherwise time.Time) time.Time {
	if t.IsZero() {
		return otherwise
	}
	return t
}

// seen is when a copy was last read, and where one is that nothing speaks
// against; none: empty.
func (s *GlassStatus) seen() (newest time.Time, where string) {
	for _, c := range s.Copies {
		if c.Failure == "" && (where == "" || c.Seen.After(newest)) {
			newest, where = c.Seen, placeName(c.Place)
		}
	}
	return newest, where
}

// placeName is a place without the name of the kit's file.
func placeName(place string) string {
	if name, _, ok := strings.Cut(place, ": "); ok {
		return name
	}
	return filepath.Dir(place)
}

// due says when what keeps the kit usable has to be done again, and what has
// changed since it was last tried.
func (s *GlassStatus) due(st *glassState) {
	since := st.Created
	if d := s.LastDrill; d != nil && d.Set == s.Set && d.Outcome == Pass {
		at := d.At.Add(drillMost)
		s.DrillDue, since = &at, d.KitMade
	}
	if d := s.LastContactDrill; d != nil && d.Set == s.Set && d.Outcome == Pass {
		at := d.At.Add(drillMost)
		s.ContactDrillDue = &at
	}
	if s.Attested != nil && !s.Attested.Before(st.Created) {
		at := s.Attested.Add(attestMost)
		s.AttestDue = &at
	}
	for _, c := range slices.Backward(st.Changes) {
		if c.At.After(since) {
			s.Changed = append(s.Changed, c)
		}
	}
}

// markActive says which openings are sessions that are open now: also those
// that the database does not know yet.
func (g *Glass) markActive(s *GlassStatus) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.sessions {
		if !s.At.Before(e.Until) {
			continue
		}
		i := slices.IndexFunc(s.Openings, func(o Opening) bool { return o.ID == e.ID })
		if i < 0 {
			s.Openings = slices.Insert(s.Openings, 0, e.Opening)
			i = 0
		}
		s.Openings[i].Active = true
	}
}

// Look reads the copies of the kit where they lie, and notes what it saw.
func (g *Glass) Look(ctx context.Context, p principal.Principal) (s GlassStatus, err error) {
	if err := g.o.Guard.Authorise(ctx, p, "break-glass.look", policy.Resource{}); err != nil {
		return s, err
	}
	g.mu.Lock()
	there := g.state != nil
	g.mu.Unlock()
	if !there {
		return s, errNoKey
	}
	if err := g.look(ctx); err != nil {
		return s, err
	}
	if s, err = g.standing(ctx); err != nil {
		return s, err
	}
	seen := map[string]any{}
	for _, c := range s.Copies {
		seen[c.Place] = c.Failure == ""
	}
	return s, g.o.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		return audit.Append(ctx, tx, p, uuid.Nil, "break-glass.look", s.Set, map[string]any{"seen": seen})
	})
}

func (g *Glass) look(ctx context.Context) error {
	g.refreshing.Lock()
	defer g.refreshing.Unlock()
	g.mu.Lock()
	s := g.state
	g.mu.Unlock()
	if s == nil || len(s.Sum) != sha256.Size {
		return nil // the next kit is read back when it is made
	}
	secrets, err := g.secrets(s)
	if err != nil {
		return err
	}
	next := *s
	next.Copies = g.read(ctx, s, secrets)
	if err := g.writeState(&next); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == s {
		g.state = &next
	}
	return nil
}

// read looks at every copy. What was known of one from before stays known.
func (g *Glass) read(ctx context.Context, s *glassState, secrets glassSecrets) (copies []KitCopy) {
	name, now := kit.FileName(s.Set), g.o.Clock().UTC()
	if g.o.Look != nil {
		copies = g.o.Look(ctx, name, [sha256.Size]byte(s.Sum))
	} else {
		for _, c := range s.Copies {
			if !filepath.IsAbs(c.Place) {
				copies = append(copies, c)
			}
		}
	}
	for _, dir := range secrets.Dirs {
		c := KitCopy{Place: filepath.Join(dir, name), Seen: now}
		body, err := os.ReadFile(c.Place)
		if sum := sha256.Sum256(body); err != nil {
			c.Seen, c.Failure = time.Time{}, detail(pathProblem(c.Place, err))
		} else if !bytes.Equal(sum[:], s.Sum) {
			c.Seen, c.Failure = time.Time{}, "What lies there is not the newest kit."
		}
		copies = append(copies, c)
	}
	for i := range copies {
		for _, old := range s.Copies {
			if old.Place != copies[i].Place {
				continue
			}
			copies[i].At = old.At
			if copies[i].Seen.IsZero() {
				copies[i].Seen = old.Seen
			}
		}
	}
	return copies
}

// partsOf are keyed digests of what a kit holds, by part: they tell which part
// changed, and nothing else.
func partsOf(c kit.Content, secrets glassSecrets) map[string]string {
	files := map[string][]kit.File{}
	for _, f := range c.Files {
		if !restless(f.Path) {
			dir, _, _ := strings.Cut(filepath.ToSlash(f.Path), "/")
			files[dir] = append(files[dir], f)
		}
	}
	parts := map[string]any{
		"the program and what it needs":                []any{c.Foundry, c.PostgreSQL, c.Packages},
		"the node's name and address":                  c.Node,
		"the key-encryption keys":                      c.KEKs,
		"the settings and the files that they name":    []any{c.Settings, c.Configuration},
		"secrets of the settings":                      c.Secrets,
		"the targets and what opens the backups there": []any{c.Targets, c.Passphrases},
		"the wrapped keys":                             files["keys"],
		"the certificate authority":                    files["ca"],
		"keys of the audit log and of evidence":        []any{files["audit"], files["evidence"]},
		"holders, contacts and briefing":               []any{c.Threshold, c.Shares, c.Holders, c.Contacts, c.Briefing},
	}
	out := map[string]string{}
	for name, part := range parts {
		body, err := json.Marshal(part)
		if err != nil {
			continue
		}
		m := hmac.New(sha256.New, secrets.Authenticator)
		m.Write([]byte("part\n" + name + "\n"))
		m.Write(body)
		clear(body)
		out[name] = hex.EncodeToString(m.Sum(nil)[:12])
	}
	return out
}

// mostChanges bounds what is kept of what changed.
const mostChanges = 100

// changed adds what differs between two kits. Of the first kit of a key, and of
// one that was made before parts were told apart, nothing is said.
func changed(before *glassState, parts map[string]string, now time.Time) []KitChange {
	all := slices.Clone(before.Changes)
	var what []string
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		if was, ok := before.Parts[name]; ok && was != parts[name] {
			what = append(what, name)
		}
	}
	if len(what) > 0 {
		all = append(all, KitChange{At: now.UTC(), What: what})
	}
	return all[max(0, len(all)-mostChanges):]
}
