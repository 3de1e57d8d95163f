package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/evidence"
)

// keyMaterial says where what opens the data is, for every provider of the
// key-encryption key, and where the data are.
func (d *Daemon) keyMaterial() (evidence.Material, error) {
	c := d.config.Keys
	m, err := d.openedBy(c.KEK, c.Age)
	if err != nil {
		return m, err
	}
	m.Data = map[string]string{"data directory": d.config.DataDir}
	if d.cluster.Load() == nil {
		m.Data = map[string]string{"data directory (the database is elsewhere)": d.config.DataDir}
	}
	m.Former, err = filepath.Glob(filepath.Join(d.config.DataDir, "keys", "kek*.retired-*"))
	if err != nil {
		return m, err
	}
	for i, p := range c.Previous {
		former, err := d.openedBy(p.Secret, p.Age)
		if err != nil {
			return m, fmt.Errorf("keys.previous[%d]: %w", i, err)
		}
		if former.KEK != "" && former.KEK != m.KEK {
			m.Former = append(m.Former, former.KEK)
		}
	}
	return m, nil
}

// openedBy says which secret opens a key-encryption key in the end: its own
// file, or, where that is encrypted with age, the identity, or the passphrase
// of the identity.
func (d *Daemon) openedBy(kek config.Secret, a *AgeConfig) (evidence.Material, error) {
	if a == nil {
		m, err := secretAt("key-encryption key", kek, "keys.kek")
		if m.KEK == "" {
			m.KEK = filepath.Join(d.config.DataDir, "keys", "kek")
		}
		return m, err
	}
	m, err := secretAt("age identity", a.Identity, "keys.age.identity")
	if err != nil {
		return m, err
	}
	identity, err := os.ReadFile(m.KEK)
	if err != nil {
		return m, fmt.Errorf("reading the age identity: %w", err)
	}
	defer clear(identity)
	locked := bytes.HasPrefix(identity, []byte("age-encryption.org/")) || bytes.HasPrefix(identity, []byte("-----BEGIN AGE ENCRYPTED FILE"))
	switch {
	case !locked:
		return m, nil
	case a.Passphrase.Set():
		return secretAt("passphrase of the age identity", a.Passphrase, "keys.age.passphrase")
	}
	return evidence.Material{Name: "passphrase of the age identity", Place: "an operator types it at every start"}, nil
}

func secretAt(name string, s config.Secret, field string) (evidence.Material, error) {
	path, err := s.Path(field)
	m := evidence.Material{Name: name, KEK: path}
	if s.Credential != "" {
		m.Unseen = "it is a systemd credential: where systemd keeps it, and what opens it there, cannot be seen from here."
	}
	return m, err
}

// Bounds of obligation O-14. A picture is taken every registerEvery; a review
// of who has access is due twice a year, as in ISO/IEC 27002:2022, 5.18, which
// asks for regular ones and names no interval.
const (
	pictureMost = 3 * registerEvery
	reviewMost  = 183 * 24 * time.Hour
)

// registerStanding judges the register of access (O-14).
func (d *Daemon) registerStanding(ctx context.Context, progress func(string)) ([]evidence.Finding, error) {
	progress("comparing the register with what is so")
	s, err := d.register.Standing(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(s.Findings)
	if err != nil {
		return nil, err
	}
	return []evidence.Finding{pictureFinding(s), differences(s, raw), reviewFinding(s)}, nil
}

func pictureFinding(s access.RegisterStanding) evidence.Finding {
	f := evidence.Finding{Subject: "signed picture", Covered: []string{"the age of the last signed picture"}, NotCovered: []string{"copies of it outside this installation"}}
	switch {
	case s.Pictured < 0:
		f.Result, f.Reason, f.Covered = evidence.Inconclusive, "No signed picture of the register has been taken yet.", nil
	case s.Pictured > pictureMost:
		f.Result, f.Reason = evidence.Fail, fmt.Sprintf("The last signed picture of the register is %s old; one is taken every %s.", s.Pictured.Round(time.Minute), registerEvery)
	default:
		f.Result, f.Reason = evidence.Pass, fmt.Sprintf("The last signed picture of the register is %s old.", s.Pictured.Round(time.Second))
	}
	return f
}

// shownFindings bounds how many findings a reason tells; the raw evidence has
// all of them.
const shownFindings = 3

func differences(s access.RegisterStanding, raw []byte) evidence.Finding {
	f := evidence.Finding{Subject: "differences", Raw: raw, Covered: []string{fmt.Sprintf("%d entries: people, roles, invitations, keys, grants, database logins, the local socket", s.Entries)},
		NotCovered: []string{"users of the operating system of this machine", "other systems of the organisation"}}
	if len(s.Findings) == 0 {
		f.Result, f.Reason = evidence.Pass, fmt.Sprintf("All %d entries are explained by the audit log.", s.Entries)
		return f
	}
	var said []string
	for _, x := range s.Findings[:min(shownFindings, len(s.Findings))] {
		said = append(said, x.Detail)
	}
	f.Result, f.Reason = evidence.Fail, strings.Join(said, " ")
	if more := len(s.Findings) - shownFindings; more > 0 {
		f.Reason += fmt.Sprintf(" And %d more.", more)
	}
	f.Reason += " `foundry access diff` shows everything."
	return f
}

func reviewFinding(s access.RegisterStanding) evidence.Finding {
	f := evidence.Finding{Subject: "reviews", Covered: []string{"when a review of access to the platform was last completed"}, NotCovered: []string{"reviews that organisations hold of their own, unless they are overdue"}}
	switch {
	case s.Reviewed >= 0 && s.Reviewed <= reviewMost:
		f.Result, f.Reason = evidence.Pass, fmt.Sprintf("The last review was completed %d days ago.", int(s.Reviewed.Hours()/24))
	case s.Reviewed > reviewMost:
		f.Result, f.Reason = evidence.Fail, fmt.Sprintf("The last review was completed %d days ago; one is due every %d days. Start one with `foundry access review start`.", int(s.Reviewed.Hours()/24), int(reviewMost.Hours()/24))
	case s.Began > reviewMost:
		f.Result, f.Reason = evidence.Fail, fmt.Sprintf("No review has ever been completed, in %d days. Start one with `foundry access review start`.", int(s.Began.Hours()/24))
	default:
		f.Result, f.Reason = evidence.Inconclusive, fmt.Sprintf("No review has been completed yet; the first is due %d days after the installation. `foundry access review start` starts one.", int(reviewMost.Hours()/24))
	}
	return f
}

// signInWithoutFactor signs administrators in without a second factor (O-15).
func (d *Daemon) signInWithoutFactor(ctx context.Context, progress func(string)) ([]evidence.Finding, error) {
	progress("signing a probe in without a second factor")
	probes, err := d.people.ProbeSecondFactor(ctx)
	if err != nil {
		return nil, err
	}
	if len(probes) == 0 {
		return nil, errors.New("no role demands a second factor")
	}
	f := evidence.Finding{Subject: "sign-in of a probe", Result: evidence.Pass, NotCovered: []string{"the pages and routes in front: the tests of each release", "roles in an organisation: the same code opens their sessions"}}
	acts := 0
	for _, p := range probes {
		f.Covered = append(f.Covered, fmt.Sprintf("a %s with the right password and no second factor; %d administrative acts", p.Role, p.Asked))
		acts += p.Asked
		switch {
		case !p.Enrolled:
			f.Result, f.Reason = evidence.Fail, fmt.Sprintf("A %s without a second factor got a session that may do more than enrol one.", p.Role)
		case len(p.Open) > 0 && f.Result == evidence.Pass:
			f.Result, f.Reason = evidence.Fail, fmt.Sprintf("The policies allow a %s without a second factor: %s.", p.Role, strings.Join(p.Open[:min(5, len(p.Open))], ", "))
		}
	}
	if f.Result == evidence.Pass && acts == 0 {
		f.Result, f.Reason = evidence.Inconclusive, "The policies know of no administrative act."
	} else if f.Result == evidence.Pass {
		f.Reason = "Each got a session in which a second factor can be enrolled and nothing else; the policies denied every administrative act."
	}
	n, err := d.people.Administrators(ctx)
	if err != nil {
		return nil, err
	}
	stored := evidence.Finding{Subject: "administrators that exist", Result: evidence.Pass, Covered: []string{"every active person with a role that demands a second factor, and their sessions"}, NotCovered: []string{"the server's own administrators, who use the local socket"}}
	stored.Reason = fmt.Sprintf("%d hold such a role; %d have enrolled no second factor yet and can do nothing else until they do.", n.All, n.Without)
	if n.Sessions > 0 {
		stored.Result, stored.Reason = evidence.Fail, fmt.Sprintf("%d sessions of administrators are open without a second factor and may do more than enrol one.", n.Sessions)
	}
	return []evidence.Finding{f, stored}, nil
}
