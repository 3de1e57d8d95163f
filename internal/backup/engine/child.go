package engine

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"
)

// Child is one run of an engine's program. It is never run by a shell, has
// none of this process's environment, and dies with this process.
type Child struct {
	Path  string
	Args  []string // no secret: every user of the machine can read them
	Env   []string // no secret: /proc/<pid>/environ shows it to the child's user for as long as it lives
	Dir   string
	As    *syscall.Credential // nil: this process's own user
	Stdin string
	// Line is called for every line of both outputs while the program runs,
	// from one goroutine at a time. It may be nil. Lines are not redacted yet.
	Line   func(line string)
	Redact []string // secrets that must not come out again in any text
	// Started is told the process id once the program runs. It may be nil.
	Started func(pid int)
	Stop    syscall.Signal // asks it to stop; zero: SIGTERM
	Quiet   bool           // Output.Out stays empty: for programs that say much, line by line
	Behind  bool           // it takes what others leave of the processors, with whatever it starts
}

// Output is what a program wrote: all of its standard output, up to 64 MiB,
// and the last lines of both outputs together, redacted.
type Output struct {
	Out  []byte
	Last []string
	Exit int // -1: killed, or never started
}

// Text is the last lines as one text.
func (o Output) Text() string { return strings.Join(o.Last, "\n") }

const (
	maxOutput   = 64 << 20
	maxLine     = 64 << 10
	lastLines   = 40
	termination = 10 * time.Second // from SIGTERM to SIGKILL
)

// Run runs the program to its end. When ctx ends first the whole process
// group is asked to stop, then killed, and the error is the context's cause.
func (c Child) Run(ctx context.Context) (out Output, err error) {
	// The kernel ends the child when the thread that started it ends
	// (prctl(2), PR_SET_PDEATHSIG): it has to live as long as the child.
	if !c.Behind {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		return c.run(ctx)
	}
	// A child has the priority of the thread that starts it. Who lowered that
	// may not raise it again: the thread ends with its goroutine.
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		YieldProcessor()
		out, err = c.run(ctx)
	}()
	<-ended
	return out, err
}

func (c Child) run(ctx context.Context) (Output, error) {
	if ctx.Err() != nil {
		return Output{Exit: -1}, context.Cause(ctx)
	}
	cmd := exec.CommandContext(ctx, c.Path, c.Args...)
	cmd.Dir, cmd.Env = c.Dir, slices.Concat([]string{"LC_ALL=C", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, c.Env)
	cmd.Stdin = strings.NewReader(c.Stdin)
	cmd.SysProcAttr = childAttributes(c.As)
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, cmp.Or(c.Stop, syscall.SIGTERM)) }
	cmd.WaitDelay = termination
	seen := &lines{each: c.Line, redact: c.redact}
	var out limited
	stdout, stderr := seen.writer(), seen.writer()
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&out, stdout), stderr
	if c.Quiet {
		cmd.Stdout = stdout
	}
	err := cmd.Start()
	if err == nil {
		if c.Started != nil {
			c.Started(cmd.Process.Pid)
		}
		err = cmd.Wait()
	}
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it left of its group
	}
	stdout.end()
	stderr.end()
	o := Output{Out: out.Bytes(), Last: seen.last, Exit: -1}
	if cmd.ProcessState != nil {
		o.Exit = cmd.ProcessState.ExitCode()
	}
	if err != nil && ctx.Err() != nil {
		return o, context.Cause(ctx)
	}
	if errors.Is(err, exec.ErrWaitDelay) { // it ended well, and a grandchild kept the pipe
		err = nil
	}
	return o, err
}

func (c Child) redact(line string) string {
	for _, secret := range c.Redact {
		if len(secret) >= 4 {
			line = strings.ReplaceAll(line, secret, "(redacted)")
		}
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(line, "?"))
}

// limited keeps the beginning of what is written to it.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if room := maxOutput - l.Len(); room > 0 {
		l.Buffer.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}

// lines splits outputs into lines, and keeps the last.
type lines struct {
	mu     sync.Mutex
	each   func(string)
	redact func(string) string
	last   []string
}

func (l *lines) line(text string) {
	text = strings.TrimRight(text, "\r\n")
	if text == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.each != nil {
		l.each(text)
	}
	l.last = append(l.last, l.redact(text))
	if n := len(l.last); n > lastLines {
		l.last = slices.Delete(l.last, 0, n-lastLines)
	}
}

type lineWriter struct {
	*io.PipeWriter
	done chan struct{}
}

func (l *lines) writer() lineWriter {
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := bufio.NewReaderSize(r, maxLine)
		for {
			part, err := b.ReadSlice('\n') // a longer line comes in pieces
			l.line(string(part))
			if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
				return
			}
		}
	}()
	return lineWriter{w, done}
}

func (w lineWriter) end() {
	_ = w.Close()
	<-w.done
}
