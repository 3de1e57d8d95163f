package evidence

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/db"
)

// CanaryOptions say where a canary is shown and where it is looked for.
type CanaryOptions struct {
	DB *db.DB

	// Present shows a token to the node, as clients do: in every place where
	// one could stand. The node refuses it.
	Present func(ctx context.Context, token string) error

	// Issued gives secrets that this process knows to be genuine, such as the
	// first API key while it is shown; may be nil. They must not be found
	// either.
	Issued func() []string

	Log   *LogWatch       // the node's own log, while the canary is shown; may be nil
	Files func() []string // log files of other processes, such as the database server's
}

// maxScan is how many rows of a table are searched as a whole; of a larger one
// only the newest part is.
const maxScan = 200_000

// Canary checks that a credential shown to the node turns up nowhere in
// plaintext: in no column of the database, in no log (O-13).
func Canary(o CanaryOptions) Collect {
	return func(ctx context.Context, progress func(string)) ([]Finding, error) {
		token := "canary" + rand.Text()
		needles := []needle{newNeedle("the canary token", token)}
		if o.Issued != nil {
			for _, secret := range o.Issued() {
				needles = append(needles, newNeedle("a genuine credential", secret))
			}
		}
		var hits func() []string
		if o.Log != nil {
			hits = o.Log.watch(needles)
			defer hits()
		}
		progress("showing the canary")
		if o.Present == nil {
			return nil, errors.New("nothing shows the canary to the node yet")
		}
		if err := o.Present(ctx, token); err != nil {
			return nil, fmt.Errorf("the canary could not be shown: %w", err)
		}
		database, err := searchDatabase(ctx, o.DB, needles, progress)
		if err != nil {
			return nil, err
		}
		return []Finding{database, searchLogs(o, needles, hits)}, nil
	}
}

// needle is a secret in every form that it could be written in.
type needle struct {
	name  string
	forms [][]byte
}

func newNeedle(name, secret string) needle {
	n := needle{name: name, forms: [][]byte{[]byte(secret), []byte(hex.EncodeToString([]byte(secret)))}}
	// In base64 the same bytes look different at each of three offsets; the
	// first and last characters depend on their neighbours.
	for pad := range 3 {
		text := base64.RawStdEncoding.EncodeToString(append(make([]byte, pad), secret...))
		n.forms = append(n.forms, []byte(text[4:len(text)-4]))
	}
	return n
}

func (n needle) in(b []byte) bool {
	for _, f := range n.forms {
		if bytes.Contains(b, f) {
			return true
		}
	}
	return false
}

// searchDatabase looks at the text of every row, with every column, of every
// table.
func searchDatabase(ctx context.Context, d *db.DB, needles []needle, progress func(string)) (Finding, error) {
	f := Finding{Subject: "database"}
	f.NotCovered = []string{"dead rows, indexes, WAL and temporary files: the search of O-06 covers the files", "credentials that were made before and are not known to this process"}
	var forms []string
	for _, n := range needles {
		for _, form := range n.forms {
			forms = append(forms, string(form))
		}
	}
	var bad, whole []string
	err := d.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT c.relname, greatest(c.reltuples, 0)::bigint, greatest(pg_relation_size(c.oid) / current_setting('block_size')::bigint, 1) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname = 'public' AND c.relkind = 'r' AND has_table_privilege(c.oid, 'SELECT') ORDER BY 1`)
		if err != nil {
			return err
		}
		type table struct {
			Name        string
			Rows, Pages int64
		}
		tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[table])
		if err != nil {
			return err
		}
		for _, t := range tables {
			progress("searching " + t.Name)
			where := ""
			if t.Rows > maxScan {
				first := t.Pages - t.Pages*maxScan/t.Rows
				where = fmt.Sprintf(` AND "whole row".ctid >= '(%d,0)'::tid`, first)
				f.NotCovered = append(f.NotCovered, fmt.Sprintf("%s: pages before %d of %d", t.Name, first, t.Pages))
			}
			var n int64
			err := tx.QueryRow(ctx, fmt.Sprintf(`SELECT count(*) FROM %s "whole row" WHERE EXISTS (SELECT FROM unnest($1::text[]) "one form" WHERE position("one form" in "whole row"::text) > 0)%s`, pgx.Identifier{t.Name}.Sanitize(), where), forms).Scan(&n)
			if err != nil {
				return fmt.Errorf("searching %s: %w", t.Name, err)
			}
			whole = append(whole, t.Name)
			if n > 0 {
				bad = append(bad, fmt.Sprintf("%s (%d rows)", t.Name, n))
			}
		}
		return nil
	})
	if err != nil {
		return f, err
	}
	f.Covered = []string{fmt.Sprintf("the text of all columns of %d tables, as plain text, hexadecimal and base64: %s", len(whole), strings.Join(whole, ", ")), names(needles)}
	if len(bad) > 0 {
		return f.fail("A credential stands in plaintext in " + strings.Join(bad, ", ") + "."), nil
	}
	return f.pass("It is in no row of the database."), nil
}

func names(needles []needle) string {
	count := map[string]int{}
	for _, n := range needles {
		count[n.name]++
	}
	text := "looked for: the canary token"
	if n := count["a genuine credential"]; n > 0 {
		text += fmt.Sprintf(" and %d genuine credentials", n)
	}
	return text
}

// searchLogs looks at what was logged while the canary was shown, and at log
// files.
func searchLogs(o CanaryOptions, needles []needle, hits func() []string) Finding {
	f := Finding{Subject: "logs", NotCovered: []string{"where the node's log is shipped to by others", "traces"}}
	if hits == nil {
		f.Result, f.Reason = Inconclusive, "The node's log is not watched."
		return f
	}
	bad := hits()
	f.Covered = []string{"every record that this node logged while the canary was shown", names(needles)}
	if o.Files != nil {
		for _, path := range o.Files() {
			ok, err := fileHas(path, needles)
			if err != nil {
				f.NotCovered = append(f.NotCovered, path+": it cannot be read")
				continue
			}
			f.Covered = append(f.Covered, path)
			if ok {
				bad = append(bad, path)
			}
		}
	}
	if len(bad) > 0 {
		return f.fail("A credential stands in plaintext in " + strings.Join(bad, ", ") + ".")
	}
	return f.pass("It is in no log.")
}

// fileHas searches a file in pieces that overlap by more than any needle.
func fileHas(path string, needles []needle) (bool, error) {
	file, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer file.Close()
	const piece, overlap = 1 << 20, 4 << 10
	buf := make([]byte, 0, piece+overlap)
	for {
		n, err := io.ReadFull(file, buf[len(buf):min(len(buf)+piece, cap(buf))])
		buf = buf[:len(buf)+n]
		for _, nd := range needles {
			if nd.in(buf) {
				return true, nil
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return false, nil
			}
			return false, err
		}
		keep := min(len(buf), overlap)
		buf = append(buf[:0], buf[len(buf)-keep:]...)
	}
}

// LogWatch passes log records on, and looks for canaries in them while one is
// being shown. Otherwise it costs one atomic load a record.
type LogWatch struct {
	next  slog.Handler
	state *watchState
	given []slog.Attr // of WithAttrs
}

type watchState struct {
	armed atomic.Int32
	mu    sync.Mutex
	watch map[*watching]struct{}
}

type watching struct {
	needles []needle
	hits    []string
}

// WatchLog wraps a handler.
func WatchLog(next slog.Handler) *LogWatch {
	return &LogWatch{next: next, state: &watchState{watch: map[*watching]struct{}{}}}
}

// watch begins to look. The function it returns ends it and says in which
// records something was found; it may be called again.
func (w *LogWatch) watch(needles []needle) func() []string {
	mine := &watching{needles: needles}
	w.state.mu.Lock()
	w.state.watch[mine] = struct{}{}
	w.state.armed.Store(int32(len(w.state.watch)))
	w.state.mu.Unlock()
	return func() []string {
		w.state.mu.Lock()
		defer w.state.mu.Unlock()
		delete(w.state.watch, mine)
		w.state.armed.Store(int32(len(w.state.watch)))
		return mine.hits
	}
}

// Enabled implements slog.Handler. While watching, records of every level are
// looked at: what debug would log is a leak as well.
func (w *LogWatch) Enabled(ctx context.Context, level slog.Level) bool {
	return w.state.armed.Load() > 0 || w.next.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (w *LogWatch) Handle(ctx context.Context, r slog.Record) error {
	if w.state.armed.Load() > 0 {
		w.look(r)
		if !w.next.Enabled(ctx, r.Level) {
			return nil
		}
	}
	return w.next.Handle(ctx, r)
}

func (w *LogWatch) look(r slog.Record) {
	var b bytes.Buffer
	o := &slog.HandlerOptions{Level: slog.Level(-1 << 10)}
	for _, h := range []slog.Handler{slog.NewTextHandler(&b, o), slog.NewJSONHandler(&b, o)} { // they write bytes in different ways
		_ = h.WithAttrs(w.given).Handle(context.Background(), r) // a Buffer never fails
	}
	w.state.mu.Lock()
	defer w.state.mu.Unlock()
	for m := range w.state.watch {
		for _, n := range m.needles {
			if n.in(b.Bytes()) && len(m.hits) < 10 {
				m.hits = append(m.hits, fmt.Sprintf("the node's log (%q)", r.Message[:min(len(r.Message), 60)]))
			}
		}
	}
}

// WithAttrs implements slog.Handler.
func (w *LogWatch) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &LogWatch{next: w.next.WithAttrs(attrs), state: w.state, given: append(w.given[:len(w.given):len(w.given)], attrs...)}
}

// WithGroup implements slog.Handler.
func (w *LogWatch) WithGroup(name string) slog.Handler {
	return &LogWatch{next: w.next.WithGroup(name), state: w.state, given: w.given}
}
