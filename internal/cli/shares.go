package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/missionopsai/foundry/internal/backup/kit"
	"github.com/missionopsai/foundry/internal/problem"
)

// shareFlags say where shares of the recovery key come from. A share is never
// an argument, which other users of the machine could read.
type shareFlags struct {
	files []string // a share in each
	all   string   // several in one
	hide  bool
}

// readShares reads shares from files, from the standard input, or from people
// at the terminal.
func (a *app) readShares(ctx context.Context, f shareFlags) (shares []kit.Share, err error) {
	for _, path := range f.files {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, shareFile(path, err)
		}
		s, err := kit.ParseShare(string(text))
		if err != nil {
			return nil, inFile(path, err)
		}
		shares = append(shares, s)
	}
	if f.all != "" {
		text, err := os.ReadFile(f.all)
		if err != nil {
			return nil, shareFile(f.all, err)
		}
		found, err := manyShares(f.all, string(text))
		if err != nil {
			return nil, err
		}
		shares = append(shares, found...)
	}
	if len(shares) > 0 {
		return shares, kit.Enough(shares)
	}
	if in, ok := a.in.(*os.File); ok && term.IsTerminal(int(in.Fd())) {
		return a.typeShares(ctx, in, f.hide)
	}
	text, err := io.ReadAll(io.LimitReader(a.in, 1<<20))
	if err != nil {
		return nil, err
	}
	if shares, err = manyShares("the standard input", string(text)); err != nil {
		return nil, err
	}
	return shares, kit.Enough(shares)
}

func shareFile(path string, err error) error {
	return problem.New(problem.NotFound, "share-file", "The file with a share cannot be read: "+path+".").WithField("share").
		WithMend("Name a file that holds the words, the line or the page of a share.").Wrap(err)
}

func inFile(path string, err error) error {
	e := problem.From(err)
	e.Detail = path + ": " + e.Detail
	return e
}

// manyShares reads shares that are separated by empty lines, or stand as one
// line each.
func manyShares(where, text string) (shares []kit.Share, err error) {
	var blocks []string
	for _, block := range strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n\n") {
		lines := strings.Split(strings.TrimSpace(block), "\n")
		whole := true // each line is a share of its own
		for _, l := range lines {
			whole = whole && (strings.HasPrefix(strings.ToUpper(strings.TrimSpace(l)), "FOUNDRY-SHARE-") || len(strings.Fields(l)) == kit.WordCount)
		}
		if whole {
			blocks = append(blocks, lines...)
		} else if strings.TrimSpace(block) != "" {
			blocks = append(blocks, block)
		}
	}
	for i, block := range blocks {
		s, err := kit.ParseShare(block)
		if err != nil {
			return nil, inFile(fmt.Sprintf("%s, share %d", where, i+1), err)
		}
		shares = append(shares, s)
	}
	return shares, nil
}

// typist asks people at a terminal for words.
type typist struct {
	a     *app
	in    *os.File
	lines *bufio.Reader
	hide  bool
}

func (a *app) typeShares(ctx context.Context, in *os.File, hide bool) (shares []kit.Share, err error) {
	t := &typist{a: a, in: in, lines: bufio.NewReader(in), hide: hide}
	fmt.Fprintf(a.err, "Each share has %d words; four letters of each are enough. Type as many on a line\nas you like. Or type the line that begins with FOUNDRY-SHARE.\n", kit.WordCount)
	for needed := kit.LeastThreshold; len(shares) < needed; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s, err := t.share(len(shares) + 1)
		if err != nil {
			return nil, err
		}
		if err := kit.Enough(append(shares, s)); err != nil && problem.From(err).Code != "shares-few" {
			t.say(err)
			continue
		}
		shares = append(shares, s)
		needed = s.Threshold
		fmt.Fprintf(a.err, "Share %d of set %s is right. %d of %d.\n", s.Index, s.Set, len(shares), needed)
	}
	return shares, nil
}

// share reads one share, and asks again for what was mistyped.
func (t *typist) share(n int) (kit.Share, error) {
	var words []string
	for {
		if len(words) >= kit.WordCount {
			s, err := kit.ParseWords(words)
			if err == nil {
				return s, nil
			}
			t.say(err)
			if words, err = t.mend(words, err); err != nil {
				return kit.Share{}, err
			}
			continue
		}
		line, err := t.line(fmt.Sprintf("Share %d, word %d: ", n, len(words)+1))
		if err != nil {
			return kit.Share{}, err
		}
		if strings.HasPrefix(strings.ToUpper(line), "FOUNDRY-SHARE-") {
			s, err := kit.ParseShare(line)
			if err == nil {
				return s, nil
			}
			t.say(err)
			continue
		}
		for _, w := range strings.Fields(line) {
			if w = strings.ToLower(strings.Trim(w, "0123456789.,")); w == "" {
				continue
			}
			whole, err := kit.Word(w)
			if err != nil {
				t.say(err)
				break // what follows on the line may be out of step
			}
			words = append(words, whole)
		}
	}
}

// mend asks again for the word that is known to be wrong, or begins anew.
func (t *typist) mend(words []string, cause error) ([]string, error) {
	p := problem.From(cause)
	var at int
	if _, err := fmt.Sscanf(p.Field, "word %d", &at); err != nil || at < 1 || at > len(words) || !strings.HasPrefix(p.Mend, "It should be") {
		fmt.Fprintln(t.a.err, "Type this share again from its first word.")
		return nil, nil
	}
	for {
		line, err := t.line(fmt.Sprintf("Type word %d again: ", at))
		if err != nil {
			return nil, err
		}
		whole, err := kit.Word(strings.ToLower(line))
		if err == nil {
			words[at-1] = whole
			return words, nil
		}
		t.say(err)
	}
}

func (t *typist) say(err error) {
	p := problem.From(err)
	fmt.Fprintf(t.a.err, "  %s\n  → %s\n", p.Detail, p.Mend)
}

// typed reads what a person types, unless the command is interrupted first:
// a read at a terminal ends only with a line, so that Ctrl-C alone would do
// nothing, or leave a terminal that does not show what is typed.
// hidden says that the read turns showing off: it may be about to, when the
// interruption comes.
func (a *app) typed(in *os.File, hidden bool, read func() (string, error)) (string, error) {
	type answer struct {
		text string
		err  error
	}
	before, _ := term.GetState(int(in.Fd()))
	got := make(chan answer, 1)
	go func() {
		text, err := read()
		got <- answer{text, err}
	}()
	select {
	case one := <-got:
		return one.text, one.err
	case <-a.done:
		for end := time.Now().Add(time.Second); before != nil && hidden && time.Now().Before(end); time.Sleep(time.Millisecond) {
			if now, err := term.GetState(int(in.Fd())); err != nil || !reflect.DeepEqual(now, before) {
				break
			}
		}
		if before != nil {
			_ = term.Restore(int(in.Fd()), before)
		}
		fmt.Fprintln(a.err)
		return "", problem.New(problem.Canceled, "interrupted", "It was interrupted, and nothing was done.").WithMend("Run the command again.")
	}
}

func (t *typist) line(prompt string) (string, error) {
	fmt.Fprint(t.a.err, prompt)
	line, err := t.a.typed(t.in, t.hide, func() (string, error) {
		if !t.hide {
			return t.lines.ReadString('\n')
		}
		raw, err := term.ReadPassword(int(t.in.Fd()))
		fmt.Fprintln(t.a.err)
		return string(raw), err
	})
	if line = strings.TrimSpace(line); line == "" && errors.Is(err, io.EOF) {
		return "", problem.New(problem.Canceled, "shares-ended", "The input ended before enough shares were typed; nothing was done.").WithMend("Run the command again.")
	}
	if err != nil && line == "" {
		return "", err
	}
	return line, nil
}
