package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/evidence"
)

// What the controls about backups look at. Each reads what is stored and what
// was proven, never what an engine says of itself.

// quarter is how often restoration has to be tested at least (continuity plan,
// section 3).
const quarter = 92 * 24 * time.Hour

func (b *Backups) unconfigured() []evidence.Finding {
	return []evidence.Finding{{Subject: "targets", Result: evidence.Fail, Covered: []string{"the configuration"}, Reason: "There is no target for backups: nothing is backed up. Name one under backup.targets."}}
}

// noBackups is what controls about what is in backups say where there are none:
// that there should be some is another control's matter.
func noBackups(subject string) []evidence.Finding {
	return []evidence.Finding{{Subject: subject + " of backups", Result: evidence.Pass, Covered: []string{"the configuration: it names no target"}, Reason: "There are no backups that it could be in."}}
}

// forTasks asks about every subject at every target.
func (b *Backups) forTasks(ctx context.Context, look func(t task, p *picture) evidence.Finding) ([]evidence.Finding, error) {
	if !b.Configured() {
		return b.unconfigured(), nil
	}
	p, err := b.look(ctx)
	if err != nil {
		return nil, err
	}
	var out []evidence.Finding
	for _, t := range b.tasks() {
		f := look(t, &p)
		f.Subject = string(t.subject) + " at " + t.target.Name
		out = append(out, f)
	}
	return out, nil
}

// AgeControl is O-29: daily backups.
func (b *Backups) AgeControl(ctx context.Context, _ func(string)) ([]evidence.Finding, error) {
	return b.forTasks(ctx, func(t task, p *picture) evidence.Finding {
		key := [2]string{string(t.subject), t.target.Name}
		if p := away(t.target); p != nil {
			return evidence.Finding{Result: evidence.Fail, Covered: []string{"whether the target is there"}, Reason: p.Detail + " Nothing is backed up there. " + p.Mend}
		}
		h := p.past[key]
		f := evidence.Finding{Result: evidence.Pass, Covered: []string{"when the last backup was made", "when a restore from there was last proven"}, NotCovered: []string{"what is in backups since: the next drill proves that"}}
		age := p.now.Sub(h.LastDone)
		passed := p.passed[key]
		switch {
		case h.LastDone.IsZero():
			f.Result, f.Reason = evidence.Fail, "There is no backup yet."
		case age > 25*time.Hour:
			f.Result, f.Reason = evidence.Fail, fmt.Sprintf("The last backup is %s old.", inWords(age.Seconds()))
		case passed == nil:
			f.Result, f.Reason = evidence.Inconclusive, fmt.Sprintf("The last backup is %s old, and none was ever proven by a restore.", inWords(age.Seconds()))
		case p.now.Sub(*passed.Ended) > b.freshFor():
			f.Result, f.Reason = evidence.Fail, fmt.Sprintf("The last backup is %s old, but the last proof is of %s.", inWords(age.Seconds()), stamp(*passed.Ended))
		default:
			f.Reason = fmt.Sprintf("The last backup is %s old; a restore was proven on %s.", inWords(age.Seconds()), stamp(*passed.Ended))
		}
		return f
	})
}

// KeptControl is O-30: retained 30 days.
func (b *Backups) KeptControl(ctx context.Context, _ func(string)) ([]evidence.Finding, error) {
	old, err := b.oldDrills(ctx)
	if err != nil {
		return nil, err
	}
	began, err := b.firstBackups(ctx)
	if err != nil {
		return nil, err
	}
	return b.forTasks(ctx, func(t task, p *picture) evidence.Finding {
		f := evidence.Finding{Result: evidence.Pass, Covered: []string{"the oldest backup that is there", "the last drill of an old or random moment"}}
		var oldest time.Time
		for _, pt := range p.points {
			if pt.Subject == t.subject && pt.Target == t.target.Name && (oldest.IsZero() || pt.Stopped.Before(oldest)) {
				oldest = pt.Stopped
			}
		}
		first := began[[2]string{string(t.subject), t.target.Name}]
		promised := p.now.Add(-b.o.Config.keep())
		d := old[t.target.Name]
		switch {
		case oldest.IsZero():
			f.Result, f.Reason = evidence.Fail, "There is no backup yet."
		case first.Before(promised) && oldest.After(promised):
			f.Result, f.Reason = evidence.Fail, fmt.Sprintf("The oldest backup is of %s, and %d days were promised.", stamp(oldest), b.o.Config.KeepDays)
		case t.subject != Database:
			f.Reason = fmt.Sprintf("The oldest backup is of %s.", stamp(oldest))
		case d == nil:
			f.Result, f.Reason = evidence.Inconclusive, fmt.Sprintf("The oldest backup is of %s, and no old moment was ever restored.", stamp(oldest))
		case d.Outcome == Fail:
			f.Result, f.Reason = evidence.Fail, "The last drill of an old moment failed: "+d.Reason
		case d.Outcome == Inconclusive:
			f.Result, f.Reason = evidence.Inconclusive, "The last drill of an old moment proved nothing: "+d.Reason
		default:
			f.Reason = fmt.Sprintf("The oldest backup is of %s; the moment %s was restored on %s.", stamp(oldest), stamp(*d.Wanted), stamp(*d.Ended))
		}
		return f
	})
}

// oldDrills reads the last drill of an old, a random or a given moment of the
// database from each target.
func (b *Backups) oldDrills(ctx context.Context) (map[string]*Drill, error) {
	out := map[string]*Drill{}
	err := b.o.DB.Read(ctx, func(tx pgx.Tx) error {
		byKey, err := drillsBy(ctx, tx, `WHERE subject = 'database' AND which IN ('oldest', 'random', 'at')`)
		for key, d := range byKey {
			out[key[1]] = d
		}
		return err
	})
	return out, err
}

// firstBackups is when the first backup ever was made, by subject and target.
func (b *Backups) firstBackups(ctx context.Context) (map[[2]string]time.Time, error) {
	out := map[[2]string]time.Time{}
	err := b.o.DB.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT subject, target, min(stopped_at) FROM backup_points GROUP BY subject, target`)
		if err != nil {
			return err
		}
		var subject, target string
		var at time.Time
		_, err = pgx.ForEachRow(rows, []any{&subject, &target, &at}, func() error { out[[2]string{subject, target}] = at; return nil })
		return err
	})
	return out, err
}

// ApartControl is O-31: stored apart from the primary data.
func (b *Backups) ApartControl(_ context.Context, _ func(string)) ([]evidence.Finding, error) {
	if !b.Configured() {
		return b.unconfigured(), nil
	}
	var out []evidence.Finding
	for _, t := range b.o.Targets {
		f := evidence.Finding{Subject: t.Name, Result: evidence.Pass, Covered: []string{"volume, host, account, supplier and country, as far as they are stated"}, NotCovered: []string{"whether what the configuration states is so"},
			Reason: "It shares neither volume, host, account nor supplier with the data."}
		var said []string
		for _, x := range t.Apart(b.o.Place, true) {
			said = append(said, x.Detail)
			if x.Fatal {
				f.Result = evidence.Fail
			} else if f.Result == evidence.Pass {
				f.Result = evidence.Inconclusive
			}
		}
		if len(said) > 0 {
			f.Reason = strings.Join(said, " ")
		}
		out = append(out, f)
	}
	return out, nil
}

// DrilledControl is O-32: restoration tested regularly.
func (b *Backups) DrilledControl(ctx context.Context, _ func(string)) ([]evidence.Finding, error) {
	return b.forTasks(ctx, func(t task, p *picture) evidence.Finding {
		return drillFinding(p.drills[[2]string{string(t.subject), t.target.Name}], p.now, b.freshFor())
	})
}

// drillFinding judges the last drill.
func drillFinding(d *Drill, now time.Time, most time.Duration) evidence.Finding {
	f := evidence.Finding{Covered: []string{"the last drill and every check of it"}}
	if d == nil || d.Ended == nil {
		f.Result, f.Reason = evidence.Fail, "No restore was ever tried."
		return f
	}
	f.Raw, _ = json.Marshal(d)
	f.Effective = *d.Ended
	age := now.Sub(*d.Ended)
	switch {
	case d.Outcome == Fail:
		f.Result, f.Reason = evidence.Fail, fmt.Sprintf("The last drill, of %s, failed: %s", stamp(*d.Ended), d.Reason)
	case d.Outcome != Pass:
		f.Result, f.Reason = evidence.Inconclusive, fmt.Sprintf("The last drill, of %s, proved nothing: %s", stamp(*d.Ended), d.Reason)
	case age > most:
		f.Result, f.Reason = evidence.Fail, fmt.Sprintf("The last drill passed %s ago; one is due every %s.", inWords(age.Seconds()), inWords(most.Seconds()))
	default:
		f.Result, f.Reason = evidence.Pass, fmt.Sprintf("The drill of %s passed: %s", stamp(*d.Ended), d.Reason)
		f.Effective = time.Time{} // how old it may be is judged here, not by the control's freshness
	}
	if f.Result != evidence.Pass {
		f.Effective = time.Time{}
	}
	return f
}

// MeasuredControl is O-33: recovery time and data gap.
func (b *Backups) MeasuredControl(ctx context.Context, _ func(string)) ([]evidence.Finding, error) {
	out, err := b.forTasks(ctx, func(t task, p *picture) evidence.Finding {
		d := p.drills[[2]string{string(t.subject), t.target.Name}]
		f := drillFinding(d, p.now, b.freshFor())
		if f.Result != evidence.Pass {
			return f
		}
		f.Covered = []string{"the recovery time that was measured, extrapolated to everything", "the data gap that was measured"}
		f.Reason = fmt.Sprintf("Recovery took %s of %s, and the gap was %s of %s.", inWords(d.FullSize), inWords(d.RTO), inWords(d.Gap), inWords(d.RPO))
		if d.FullSize > time.Duration(b.o.Config.RTO).Seconds() || d.Gap > time.Duration(b.o.Config.RPO).Seconds() {
			f.Result = evidence.Fail
		}
		return f
	})
	if err != nil || !b.Configured() {
		return out, err
	}
	s, err := b.status(ctx)
	if err != nil {
		return nil, err
	}
	f := evidence.Finding{Subject: "now", Result: evidence.Result(s.CanRestore.Outcome), Reason: s.CanRestore.Reason, Covered: []string{"how far the archive of the log has come at targets from which a restore was proven"}}
	return append(out, f), nil
}

// QuarterControl is O-48: restoration of the database tested quarterly.
func (b *Backups) QuarterControl(ctx context.Context, _ func(string)) ([]evidence.Finding, error) {
	if !b.Configured() {
		return b.unconfigured(), nil
	}
	p, err := b.look(ctx)
	if err != nil {
		return nil, err
	}
	var newest *Drill
	for key, d := range p.passed {
		if key[0] == string(Database) && (newest == nil || d.Ended.After(*newest.Ended)) {
			newest = d
		}
	}
	f := drillFinding(newest, p.now, quarter)
	f.Subject = "database"
	return []evidence.Finding{f}, nil
}

// RestoredControl is O-53: the recovered point is on record.
func (b *Backups) RestoredControl(ctx context.Context, _ func(string)) ([]evidence.Finding, error) {
	if !b.Configured() {
		return b.unconfigured(), nil
	}
	f := evidence.Finding{Subject: "last drill of the database", Covered: []string{"the signed record and its hash in the audit log"}}
	var id string
	var signed, hash []byte
	var entered bool
	err := b.o.DB.Read(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT d.id::text, d.signed, d.hash, EXISTS (SELECT FROM audit a WHERE a.act = 'backup.proof' AND a.target = d.id::text AND a.details->>'record_sha256' = encode(d.hash, 'hex'))
			FROM backup_drills d WHERE d.subject = 'database' AND d.outcome = 'pass' ORDER BY d.started_at DESC LIMIT 1`).Scan(&id, &signed, &hash, &entered)
	})
	if noRows(err) {
		f.Result, f.Reason = evidence.Fail, "No restore of the database has been proven yet."
		return []evidence.Finding{f}, nil
	}
	if err != nil {
		return nil, err
	}
	var d Drill
	sum := sha256.Sum256(signed)
	switch {
	case !bytes.Equal(sum[:], hash) || json.Unmarshal(signed, &d) != nil:
		f.Result, f.Reason = evidence.Fail, "The record of drill "+id+" is not what was signed."
	case !entered:
		f.Result, f.Reason = evidence.Fail, "The audit log does not hold the hash of the record of drill "+id+"."
	case d.Recovered == nil:
		f.Result, f.Reason = evidence.Inconclusive, "The record of drill "+id+" does not say which moment was recovered."
	default:
		f.Result, f.Reason = evidence.Pass, fmt.Sprintf("From backup %s the moment %s was recovered on %s.", d.Label, stamp(*d.Recovered), stamp(d.Started))
		f.Raw = signed
	}
	return []evidence.Finding{f}, nil
}

// EncryptedControl is the part of O-06 about repositories: their files begin
// with the header of encrypted ones, and needles are in none of them.
func (b *Backups) EncryptedControl(needles func() [][]byte) evidence.Collect {
	return func(ctx context.Context, progress func(string)) ([]evidence.Finding, error) {
		if !b.Configured() {
			return noBackups("repositories"), nil
		}
		var out []evidence.Finding
		for _, t := range b.o.Targets {
			progress("looking at " + t.Name)
			out = append(out, encryptedAt(ctx, t, needles()))
		}
		return out, nil
	}
}

// mostLooked bounds how many files of a repository are looked at in one run.
const mostLooked = 2000

// encryptedAt looks at a directory target. What lies in a bucket or on another
// host is not downloaded for this: the same program has encrypted it.
func encryptedAt(ctx context.Context, t target.Target, needles [][]byte) evidence.Finding {
	f := evidence.Finding{Subject: "repositories at " + t.Name}
	if t.Kind != target.Directory {
		f.Result, f.Reason = evidence.Inconclusive, "The files there are not read back for this: what encrypted them is the same as for a directory."
		return f
	}
	files, plain, leak := 0, "", ""
	err := filepath.WalkDir(t.Path, func(path string, d fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil || files >= mostLooked {
			if files >= mostLooked {
				return fs.SkipAll
			}
			return err
		}
		if !d.Type().IsRegular() {
			return nil
		}
		head, body, err := headOf(path)
		if err != nil || len(body) == 0 {
			return nil // it went away meanwhile, or is empty
		}
		files++
		for _, n := range needles {
			if leak == "" && bytes.Contains(body, n) {
				leak = d.Name()
			}
		}
		// pgBackRest's encrypted files begin as those of `openssl enc`; restic's
		// have no header, and its config is encrypted too.
		if strings.Contains(path, "/pgbackrest/") && !bytes.HasPrefix(head, []byte("Salted__")) && plain == "" {
			plain = d.Name()
		}
		return nil
	})
	f.Covered = []string{fmt.Sprintf("the first %d bytes of %d files", headBytes, files)}
	switch {
	case err != nil:
		f.Result, f.Reason, f.Covered = evidence.Inconclusive, "The repository cannot be read: "+detail(err), nil
	case leak != "":
		f.Result, f.Reason = evidence.Fail, "A plaintext that was planted stands in "+leak+"."
	case plain != "":
		f.Result, f.Reason = evidence.Fail, "The file "+plain+" does not begin as an encrypted one does."
	case files == 0:
		f.Result, f.Reason, f.Covered = evidence.Inconclusive, "There is no file yet.", nil
	default:
		f.Result, f.Reason = evidence.Pass, "Every file of the database's repository begins as an encrypted one, and no planted plaintext is in any."
	}
	return f
}

const headBytes = 256 << 10

func headOf(path string) (head, body []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	body = make([]byte, headBytes)
	n, err := f.Read(body)
	if n == 0 {
		return nil, nil, err
	}
	return body[:min(n, 8)], body[:n], nil
}

// KeysControl is the part of O-07 about targets: none of the secrets that open
// the backups stands in a file among them.
func (b *Backups) KeysControl(secrets func() (map[string][]byte, error)) evidence.Collect {
	return func(ctx context.Context, progress func(string)) ([]evidence.Finding, error) {
		if !b.Configured() {
			return noBackups("key material"), nil
		}
		named, err := secrets()
		if err != nil {
			return nil, err
		}
		defer func() {
			for _, s := range named {
				clear(s)
			}
		}()
		var needles [][]byte
		for _, s := range named {
			needles = append(needles, s)
		}
		var out []evidence.Finding
		for _, t := range b.o.Targets {
			progress("searching " + t.Name)
			f := encryptedAt(ctx, t, needles)
			f.Subject = "key material at " + t.Name
			switch {
			case f.Result == evidence.Fail && strings.HasPrefix(f.Reason, "A plaintext"):
				f.Reason = strings.Replace(f.Reason, "A plaintext that was planted", "A secret that opens the backups", 1)
			case f.Result != evidence.Inconclusive:
				f.Result, f.Reason = evidence.Pass, fmt.Sprintf("None of %d secrets stands in a file there.", len(needles))
			}
			out = append(out, f)
		}
		return out, nil
	}
}
