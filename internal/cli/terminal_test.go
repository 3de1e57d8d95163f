package cli_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/missionopsai/foundry/internal/backup/kit"
)

// typing is a command that runs at a terminal of its own, as with a person
// before it.
type typing struct {
	t      *testing.T
	cmd    *exec.Cmd
	master *os.File
	slave  *os.File
	exited chan error

	mu   sync.Mutex
	cond *sync.Cond
	text []byte // what the terminal shows
	read int    // how much of it was waited for
}

// terminalPatience is how long anything may take that ought to happen at once.
const terminalPatience = 2 * time.Minute

// atTerminal runs foundry at a new pseudo-terminal (pts(4)).
func atTerminal(t *testing.T, dir string, args ...string) *typing {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no pseudo-terminals here: %v", err)
	}
	raw := int(master.Fd())
	if err := unix.IoctlSetPointerInt(raw, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(raw, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	me, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &typing{t: t, master: master, slave: slave, exited: make(chan error, 1)}
	c.cond = sync.NewCond(&c.mu)
	c.cmd = &exec.Cmd{Path: me, Args: append([]string{"foundry"}, args...), Dir: dir, Stdin: slave, Stdout: slave, Stderr: slave,
		Env: append(os.Environ(), "HOME="+dir, "TZ=UTC"), SysProcAttr: &syscall.SysProcAttr{Setsid: true, Setctty: true}}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			c.mu.Lock()
			c.text = append(c.text, buf[:n]...)
			c.cond.Broadcast()
			c.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	go func() { c.exited <- c.cmd.Wait() }()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		_ = slave.Close()
		_ = master.Close()
	})
	return c
}

// sees waits until the terminal shows something, after what was seen before.
func (c *typing) sees(what string) {
	c.t.Helper()
	wake := time.AfterFunc(terminalPatience, c.cond.Broadcast)
	defer wake.Stop()
	end := time.Now().Add(terminalPatience)
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if at := bytes.Index(c.text[c.read:], []byte(what)); at >= 0 {
			c.read += at + len(what)
			return
		}
		if time.Now().After(end) {
			c.t.Fatalf("the terminal does not show %q, but:\n%s", what, c.text)
		}
		c.cond.Wait()
	}
}

// types types a line.
func (c *typing) types(line string) { c.keys(line + "\n") }

func (c *typing) keys(keys string) {
	c.t.Helper()
	if _, err := c.master.WriteString(keys); err != nil {
		c.t.Fatal(err)
	}
}

// ends waits for the command's end, and returns its exit code.
func (c *typing) ends() int {
	c.t.Helper()
	select {
	case err := <-c.exited:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			c.t.Fatal(err)
		}
		return c.cmd.ProcessState.ExitCode()
	case <-time.After(terminalPatience):
		c.mu.Lock()
		defer c.mu.Unlock()
		c.t.Fatalf("the command does not end; the terminal shows:\n%s", c.text)
		return 0
	}
}

// shown is everything that the terminal showed.
func (c *typing) shown() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.text)
}

// echoes reports whether the terminal shows what is typed.
func (c *typing) echoes() bool {
	c.t.Helper()
	state, err := unix.IoctlGetTermios(int(c.slave.Fd()), unix.TCGETS)
	if err != nil {
		c.t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// kitOnDisk makes a kit that 2 of 3 shares open, in a new directory, and shares
// of another set.
func kitOnDisk(t *testing.T) (dir string, shares, foreign []kit.Share) {
	t.Helper()
	dir = t.TempDir()
	for i, to := range []*[]kit.Share{&shares, &foreign} {
		key, err := kit.NewKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if *to, err = key.Split(2, 3, rand.Reader); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			continue
		}
		file, err := kit.Recipient{Public: key.Recipient(), Authenticator: key.Authenticator()}.Seal(kit.Content{Foundry: "v0.0.0-test",
			KEKs: []kit.KEK{{Key: bytes.Repeat([]byte("k"), 32)}}, Files: []kit.File{{Path: "keys/keyset", Mode: 0o600, Body: []byte("x")}}}, time.Now())
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "kit.age"), file, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir, shares, foreign
}

func extract(t *testing.T, dir string, more ...string) *typing {
	return atTerminal(t, dir, append([]string{"breakglass", "open", "--kit", "kit.age", "--extract", "inside", "--reason", "restoring by hand", "--data-dir", "none"}, more...)...)
}

// untouched fails if a command that did not come to its end left anything.
func untouched(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && path != dir && d.Name() != "kit.age" {
			t.Errorf("it left %s", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Everything that people do wrong while they type, one after the other; then
// the kit opens all the same.
func TestSharesAreTypedAtATerminalWithEveryMistake(t *testing.T) {
	t.Parallel()
	dir, shares, foreign := kitOnDisk(t)
	c := extract(t, dir)
	words := shares[0].Words()

	// A word that is in no list, on a line of its own.
	c.sees("Share 1, word 1: ")
	c.types("abandn")
	c.sees(`"abandn" is not in the list`)
	c.sees(`"abandon"`)
	c.sees("Share 1, word 1: ")
	c.types(strings.Join(words[:10], " "))
	c.sees("Share 1, word 11: ")

	// A word that is in the list, but not on the page: it is named, and asked
	// for again.
	wrong := "zoo"
	if words[11] == wrong {
		wrong = "abandon"
	}
	line := append([]string{words[10], wrong}, words[12:]...)
	c.types(strings.Join(line, " "))
	c.sees(`Word 12, "` + wrong + `", is not the word on the page`)
	c.sees(`It should be "` + words[11] + `"`)
	c.sees("Type word 12 again: ")
	c.types("mistake!")
	c.sees("Type word 12 again: ")
	c.types(words[11][:min(4, len(words[11]))])
	c.sees("Share 1 of set " + shares[0].Set.String() + " is right. 1 of 2.")

	// The same share twice.
	c.sees("Share 2, word 1: ")
	c.types(strings.Join(words, " "))
	c.sees("given twice")
	// One of another set.
	c.sees("Share 2, word 1: ")
	c.types(strings.Join(foreign[1].Words(), " "))
	c.sees(foreign[1].Set.String())
	// A line that was copied badly, then well.
	c.sees("Share 2, word 1: ")
	text := shares[2].Text()
	c.types(text[:len(text)-1])
	c.sees("→")
	c.sees("Share 2, word 1: ")
	c.types(text)
	c.sees("2 of 2.")
	if code := c.ends(); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, c.shown())
	}
	c.sees("files are in inside, in the clear")
	if body, err := os.ReadFile(filepath.Join(dir, "inside", "kek-0")); err != nil || !bytes.Contains(body, []byte("kkkk")) && len(body) == 0 {
		t.Errorf("the key was not taken out: %v", err)
	}
}

// Whoever gives up, by closing the input or with Ctrl-C, at whatever moment,
// leaves nothing, and a terminal that shows what is typed.
func TestWhoeverGivesUpWhileTypingLeavesNothing(t *testing.T) {
	t.Parallel()
	const control = "\x03"
	for name, try := range map[string]struct {
		flags []string
		do    func(c *typing, share string)
	}{
		"Ctrl-C at the first word": {nil, func(c *typing, _ string) { c.keys(control) }},
		"Ctrl-C in the middle of a line": {nil, func(c *typing, share string) {
			c.keys(share[:20])
			c.keys(control)
		}},
		"Ctrl-C after one share of two": {nil, func(c *typing, share string) {
			c.types(share)
			c.sees("1 of 2.")
			c.sees("Share 2, word 1: ")
			c.keys(control)
		}},
		"Ctrl-C while nothing is shown": {[]string{"--hide"}, func(c *typing, _ string) { c.keys(control) }},
		"the input ends with one share of two": {nil, func(c *typing, share string) {
			c.types(share)
			c.sees("Share 2, word 1: ")
			c.keys("\x04")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, shares, _ := kitOnDisk(t)
			c := extract(t, dir, try.flags...)
			c.sees("Share 1, word 1: ")
			try.do(c, strings.Join(shares[1].Words(), " "))
			if code := c.ends(); code != 75 {
				t.Errorf("exit code %d, want 75:\n%s", code, c.shown())
			}
			c.sees("nothing was done")
			if !c.echoes() {
				t.Error("the terminal does not show what is typed any more")
			}
			untouched(t, dir)
		})
	}
}

// A recovery that is given up before the shares are there has not begun.
func TestARecoveryThatIsGivenUpWhileTypingHasNotBegun(t *testing.T) {
	t.Parallel()
	dir, shares, _ := kitOnDisk(t)
	c := atTerminal(t, dir, "recover", "--kit", "kit.age", "--data-dir", filepath.Join(dir, "d"))
	c.sees("Share 1, word 1: ")
	c.types(strings.Join(shares[2].Words(), " "))
	c.sees("Share 2, word 1: ")
	c.keys("\x03")
	if code := c.ends(); code != 75 {
		t.Errorf("exit code %d, want 75:\n%s", code, c.shown())
	}
	untouched(t, dir)
}

// With --hide the terminal shows no word of a share.
func TestHiddenSharesAreNotShown(t *testing.T) {
	t.Parallel()
	dir, shares, _ := kitOnDisk(t)
	c := extract(t, dir, "--hide")
	for i, s := range shares[:2] {
		c.sees(fmt.Sprintf("Share %d, word 1: ", i+1))
		for c.echoes() { // the prompt comes before the terminal is told
			select {
			case <-t.Context().Done():
				t.Fatal("the terminal goes on showing what is typed")
			case <-time.After(time.Millisecond):
			}
		}
		c.types(strings.Join(s.Words(), " "))
	}
	if code := c.ends(); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, c.shown())
	}
	for _, s := range shares[:2] {
		if found := regexp.MustCompile(strings.Join(s.Words()[3:6], `\s+`)).FindString(c.shown()); found != "" {
			t.Errorf("the terminal shows %q", found)
		}
	}
}
