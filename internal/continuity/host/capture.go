package host

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/missionopsai/foundry/internal/durable"
	"github.com/missionopsai/foundry/internal/problem"
)

// Captured is one piece of evidence as it lies on this machine.
type Captured struct {
	Name    string    `json:"name"`
	Kind    string    `json:"kind"` // memory, disk, logs, other
	Hash    string    `json:"sha256"`
	Size    int64     `json:"size"`
	Place   string    `json:"place"` // a path on this machine
	Taken   time.Time `json:"taken_at"`
	How     string    `json:"how"`
	Checked bool      `json:"checked,omitempty"` // it was read again, and has this hash
	Cut     bool      `json:"cut,omitempty"`     // there was more than is kept
	Failed  string    `json:"failed,omitempty"`  // why there is nothing, or not all of it
}

var captureRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,100}$`)

// Capture keeps what the configuration names, each in a file that is not written
// again: what changes fastest first (RFC 3227 section 2.1). What could not be
// kept is in the list with the reason; there is an error only where nothing was.
func (h *Host) Capture(ctx context.Context, id string, told func(words string, done, total int)) ([]Captured, error) {
	c := h.o.Config.Capture
	if c == nil {
		return nil, problem.New(problem.Denied, "host-capture-not-allowed", "This machine's configuration does not say what is kept as evidence.").WithMend("Write continuity.allow.capture on this node, or take an image at the supplier.").Wrap(ErrNotAllowed)
	}
	if !captureRule.MatchString(id) {
		return nil, problem.New(problem.Invalid, "host-capture-id", "A capture has the id of what asked for it.")
	}
	dir := filepath.Join(h.o.Dir, "evidence", id+"-"+h.o.Clock().UTC().Format("20060102T150405.000Z"))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	most := c.MaxBytes
	if most <= 0 {
		most = 256 << 20
	}
	commands := slices.Clone(c.Commands)
	slices.SortStableFunc(commands, func(a, b CaptureCommand) int { return haste(a.Kind) - haste(b.Kind) })
	total := 2 + len(commands) + len(c.Disks)
	var out []Captured
	step := func(name, kind, how string, write func(w io.Writer) error) {
		told("capturing "+name, len(out), total)
		out = append(out, h.keep(dir, name, kind, how, most, write))
	}
	for len(commands) > 0 && commands[0].Kind == "memory" {
		m := commands[0]
		commands = commands[1:]
		step(m.Name, m.Kind, strings.Join(m.Argv, " "), func(w io.Writer) error { return h.record(ctx, w, m) })
	}
	step("sockets", "other", "/proc/net", sockets)
	step("processes", "other", "/proc", processes)
	for _, m := range commands {
		step(m.Name, m.Kind, strings.Join(m.Argv, " "), func(w io.Writer) error { return h.record(ctx, w, m) })
	}
	for _, disk := range c.Disks {
		told("hashing "+disk, len(out), total)
		out = append(out, h.fingerprint(ctx, disk))
	}
	if err := durable.SyncDir(dir); err != nil {
		return out, err
	}
	if !slices.ContainsFunc(out, func(c Captured) bool { return c.Hash != "" }) {
		return out, failed("host-capture-failed", "Nothing could be kept as evidence.")
	}
	told("captured", total, total)
	return out, nil
}

func haste(kind string) int {
	return map[string]int{"memory": 0, "logs": 2, "disk": 3}[kind] + map[bool]int{true: 1}[kind == "" || kind == "other"]
}

// keep writes one file, bounded, and reads it again.
func (h *Host) keep(dir, name, kind, how string, most int64, write func(io.Writer) error) (c Captured) {
	if kind == "" {
		kind = "other"
	}
	c = Captured{Name: name, Kind: kind, How: how, Place: filepath.Join(dir, name), Taken: h.o.Clock()}
	f, err := os.OpenFile(c.Place, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o400)
	if err != nil {
		c.Failed, c.Place = clean(err.Error(), 200), ""
		return c
	}
	sum := sha256.New()
	w := &bounded{to: io.MultiWriter(f, sum), left: most}
	werr := write(w)
	err = errors.Join(f.Sync(), f.Close())
	c.Cut = w.cut
	if werr != nil {
		c.Failed = clean(problem.From(werr).Error(), 200)
		var exit *exec.ExitError
		if errors.As(werr, &exit) {
			c.Failed = fmt.Sprintf("it ended with %d", exit.ExitCode())
		}
	}
	if err != nil || w.wrote == 0 {
		if c.Failed == "" {
			c.Failed = "there was nothing to keep"
		}
		c.Place = ""
		return c
	}
	c.Hash, c.Size = hex.EncodeToString(sum.Sum(nil)), w.wrote
	again, size, err := hashFile(context.Background(), c.Place)
	c.Checked = err == nil && again == c.Hash && size == c.Size
	return c
}

// bounded takes no more than it may, and says so.
type bounded struct {
	to          io.Writer
	left, wrote int64
	cut         bool
}

func (b *bounded) Write(p []byte) (int, error) {
	n := len(p)
	if int64(len(p)) > b.left {
		p, b.cut = p[:b.left], true
	}
	wrote, err := b.to.Write(p)
	b.left -= int64(wrote)
	b.wrote += int64(wrote)
	if err != nil {
		return wrote, err
	}
	return n, nil
}

// record runs a command of the configuration into w.
func (h *Host) record(ctx context.Context, w io.Writer, m CaptureCommand) error {
	if err := executable(m.Argv[0]); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, m.Timeout.Or(10*time.Minute))
	defer cancel()
	c := exec.CommandContext(ctx, m.Argv[0], m.Argv[1:]...)
	c.Env, c.Dir, c.Stdout, c.Stderr = environment, "/", w, w
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = 2 * time.Second
	err := c.Run()
	if ctx.Err() != nil {
		return problem.New(problem.Timeout, "host-unending", "it did not end in its time").Wrap(ErrUnknown)
	}
	return err
}

// fingerprint hashes a disk or a file where it lies. The hash shows later whether
// a copy is of what was there; it is no copy, so it is not of the kind disk, for
// which a wipe waits.
func (h *Host) fingerprint(ctx context.Context, path string) Captured {
	c := Captured{Name: "hash-of" + strings.ReplaceAll(path, "/", "-"), Kind: "other", How: "SHA-256 of what lies there; no copy was made", Taken: h.o.Clock()}
	sum, size, err := hashFile(ctx, path)
	if err != nil || size == 0 {
		c.Failed = "it cannot be read"
		return c
	}
	c.Hash, c.Size, c.Place = sum, size, path
	return c
}

func hashFile(ctx context.Context, path string) (string, int64, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe that nobody writes must not hold this up
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() && info.Mode()&(os.ModeDevice|os.ModeCharDevice) != os.ModeDevice {
		return "", 0, errors.Join(err, errors.New("neither a file nor a disk"))
	}
	sum := sha256.New()
	n, err := io.Copy(sum, readerFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		return f.Read(p)
	}))
	return hex.EncodeToString(sum.Sum(nil)), n, err
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// sockets copies the kernel's tables of sockets.
func sockets(w io.Writer) error {
	for _, name := range []string{"tcp", "tcp6", "udp", "udp6", "unix", "raw", "raw6"} {
		text, err := os.ReadFile("/proc/net/" + name)
		if err != nil {
			continue
		}
		if _, err := fmt.Fprintf(w, "== /proc/net/%s\n%s\n", name, text); err != nil {
			return err
		}
	}
	return nil
}

// processes lists every process: id, parent, user, start, program, arguments,
// where it stands, and what it has open.
func processes(w io.Writer) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		dir := filepath.Join("/proc", e.Name())
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue // it has ended
		}
		line, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		exe, _ := os.Readlink(filepath.Join(dir, "exe"))
		cwd, _ := os.Readlink(filepath.Join(dir, "cwd"))
		var uid uint32
		if info, err := os.Stat(dir); err == nil {
			if s, ok := info.Sys().(*syscall.Stat_t); ok {
				uid = s.Uid
			}
		}
		if _, err := fmt.Fprintf(w, "== %s uid=%d exe=%q cwd=%q\n%s%q\n", e.Name(), uid, exe, cwd, stat, strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")); err != nil {
			return err
		}
		files, _ := os.ReadDir(filepath.Join(dir, "fd"))
		for _, f := range files {
			if to, err := os.Readlink(filepath.Join(dir, "fd", f.Name())); err == nil {
				if _, err := fmt.Fprintf(w, "  fd %s %q\n", f.Name(), to); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
