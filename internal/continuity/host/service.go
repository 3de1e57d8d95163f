package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

const lookLimit = 10 * time.Second // for a program that only says how something stands

// standing is how systemd says that a unit stands.
type standing struct {
	Load, Active, Sub, Result, Type, Invocation string
	Restarts                                    int
}

func (s standing) String() string { return s.Active + " (" + s.Sub + ")" }

// runs says whether a unit does what starting it was to bring about. One that
// does something once and ends is not active afterwards.
func (s standing) runs() bool {
	return s.Active == "active" || s.Type == "oneshot" && s.Active == "inactive" && s.Result == "success" && s.Invocation != ""
}

// readStanding reads what `systemctl show` writes: name=value, a line each.
func readStanding(text string) (s standing, err error) {
	seen := 0
	for line := range strings.SplitSeq(text, "\n") {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok {
			continue
		}
		to := map[string]*string{"LoadState": &s.Load, "ActiveState": &s.Active, "SubState": &s.Sub, "Result": &s.Result, "Type": &s.Type, "InvocationID": &s.Invocation}[name]
		switch {
		case to != nil:
			*to, seen = clean(value, 60), seen+1
		case name == "NRestarts":
			s.Restarts, _ = strconv.Atoi(value)
		}
	}
	if seen == 0 || s.Load == "" || s.Active == "" {
		return s, errors.New("systemctl did not say how the unit stands")
	}
	return s, nil
}

func (h *Host) systemctl() string {
	if p := h.o.Config.Programs.Systemctl; p != "" {
		return p
	}
	return "/usr/bin/systemctl"
}

// standing asks systemd how a unit stands.
func (h *Host) standing(ctx context.Context, unit string) (standing, error) {
	var out output
	err := h.run(ctx, lookLimit, &out, "", h.systemctl(), "show", "--no-pager", "--property=LoadState,ActiveState,SubState,Result,Type,InvocationID,NRestarts", "--", unit)
	if errors.Is(err, ErrAbsent) || errors.Is(err, ErrNotAllowed) {
		return standing{}, err
	}
	if err != nil {
		return standing{}, problem.New(problem.Unavailable, "host-systemd", "systemd does not answer: "+out.last()).WithMend("See whether this machine runs systemd.").Wrap(errors.Join(ErrUnknown, err))
	}
	s, err := readStanding(out.String())
	switch {
	case err != nil:
		return s, problem.New(problem.Unavailable, "host-systemd", "systemd did not say how "+unit+" stands.").Wrap(errors.Join(ErrUnknown, err))
	case s.Load != "loaded":
		return s, problem.New(problem.NotFound, "host-unit-absent", fmt.Sprintf("This machine has no unit %s that can be used (%s).", unit, s.Load)).WithMend("Compare the name with `systemctl list-unit-files`.").Wrap(ErrAbsent)
	}
	return s, nil
}

// unit does an act to a unit and looks whether it took.
func (h *Host) unit(ctx context.Context, act string, u Unit) (did Did, err error) {
	before, err := h.standing(ctx, u.Name)
	if err != nil {
		return did, err
	}
	did.Before, did.After = before.String(), before.String()
	if act == Start && before.Active == "active" || act == Stop && before.Active == "inactive" {
		did.Words = "It was so already."
		return did, nil
	}
	var out output
	run := h.run(ctx, u.Timeout.Or(2*time.Minute), &out, "", h.systemctl(), act, "--no-ask-password", "--no-pager", "--", u.Name)
	after, err := h.standing(ctx, u.Name)
	if err != nil {
		return did, errors.Join(err, run)
	}
	if act != Stop && after.runs() {
		// A program that dies right after its start was never there.
		if err := h.o.Wait(ctx, h.o.Settle); err != nil {
			return did, problem.New(problem.Canceled, "host-told-to-end", "It was told to end before it was seen to run.").Wrap(errors.Join(ErrUnknown, err))
		}
		first := after
		if after, err = h.standing(ctx, u.Name); err != nil {
			return did, err
		}
		if after.Restarts > first.Restarts || after.Type != "oneshot" && after.Invocation != first.Invocation {
			did.After = after.String()
			return did, failed("host-unit-dies", u.Name+" was started, and had to be started again at once.")
		}
	}
	did.After = after.String()
	switch {
	case act == Stop && after.Active == "inactive", act == Stop && after.Active == "failed":
		did.Words = "It has stopped."
	case act != Stop && after.runs():
		did.Words = "It runs."
	case errors.Is(run, ErrUnknown):
		return did, run
	default:
		return did, failed("host-unit-failed", fmt.Sprintf("%s was told to %s, and is %s, %s. %s", u.Name, act, after, after.Result, out.last()))
	}
	return did, nil
}

// composeProgram is what speaks to containers here.
func (h *Host) composeProgram() ([]string, error) {
	if p := h.o.Config.Programs.Compose; len(p) > 0 {
		return p, nil
	}
	for _, name := range []string{"docker", "podman"} {
		if path, err := exec.LookPath(name); err == nil && filepath.IsAbs(path) {
			return []string{path, "compose"}, nil
		}
	}
	return nil, problem.New(problem.Unsupported, "host-compose-absent", "This machine has neither docker nor podman: no Compose project can be brought up.").WithMend("Install one, or name it in continuity.allow.programs.compose.").Wrap(ErrAbsent)
}

// container is one line of `compose ps --format json`.
type container struct {
	Name    string `json:"Name"`
	Service string `json:"Service"`
	State   string `json:"State"`
	Health  string `json:"Health"`
	Exit    int    `json:"ExitCode"`
}

// readContainers reads what `compose ps` writes: an object a line, or all in one
// list, by version.
func readContainers(text []byte) (out []container, err error) {
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return nil, nil
	}
	if text[0] == '[' {
		return out, json.Unmarshal(text, &out)
	}
	for d := json.NewDecoder(bytes.NewReader(text)); d.More(); {
		var c container
		if err := d.Decode(&c); err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// containers asks how a project's containers stand.
func (h *Host) containers(ctx context.Context, program []string, p Project) ([]container, error) {
	var out output
	args := append(append([]string{}, program...), "--file", p.File, "--project-name", p.Name, "ps", "--all", "--format", "json")
	if err := h.run(ctx, lookLimit, &out, "", args...); err != nil {
		if errors.Is(err, ErrAbsent) || errors.Is(err, ErrNotAllowed) {
			return nil, err
		}
		return nil, problem.New(problem.Unavailable, "host-compose", "Compose does not answer: "+out.last()).WithMend("See whether the daemon of the containers runs.").Wrap(errors.Join(ErrUnknown, err))
	}
	list, err := readContainers([]byte(out.String()))
	if err != nil {
		return nil, problem.New(problem.Unavailable, "host-compose", "Compose did not say how the project's containers stand.").Wrap(errors.Join(ErrUnknown, err))
	}
	return list, nil
}

// project brings a Compose project up or down and looks whether it took.
func (h *Host) project(ctx context.Context, act string, p Project) (did Did, err error) {
	if _, err := os.Stat(p.File); err != nil {
		return did, problem.New(problem.NotFound, "host-compose-file", "The compose file "+p.File+" is not there.").Wrap(errors.Join(ErrAbsent, err))
	}
	program, err := h.composeProgram()
	if err != nil {
		return did, err
	}
	before, err := h.containers(ctx, program, p)
	if err != nil {
		return did, err
	}
	did.Before = summary(before)
	limit := p.Timeout.Or(5 * time.Minute)
	args := append(append([]string{}, program...), "--file", p.File, "--project-name", p.Name)
	if act == Start {
		args = append(args, "up", "--detach", "--wait", "--wait-timeout", strconv.Itoa(int(limit.Seconds())), "--no-build")
	} else {
		args = append(args, "stop") // and not down: what a container holds may be evidence
	}
	var out output
	run := h.run(ctx, limit+10*time.Second, &out, "", args...)
	after, err := h.containers(ctx, program, p)
	if err != nil {
		return did, errors.Join(err, run)
	}
	did.After = summary(after)
	bad := wrong(act, after)
	switch {
	case bad == "" && run == nil:
		did.Words = map[string]string{Start: "It runs.", Stop: "It has stopped."}[act]
		return did, nil
	case errors.Is(run, ErrUnknown):
		return did, run
	}
	return did, failed("host-compose-failed", fmt.Sprintf("The project %s was told to %s: %s. %s", p.Name, act, did.After, out.last()))
}

// wrong names a container that is not as an act was to bring about; "": none.
func wrong(act string, list []container) string {
	for _, c := range list {
		if runs := c.State == "running"; act == Stop && runs || act == Start && (!runs && !(c.State == "exited" && c.Exit == 0) || c.Health == "unhealthy" || c.Health == "starting") {
			return c.Name
		}
	}
	if act == Start && len(list) == 0 {
		return "none"
	}
	return ""
}

func summary(list []container) string {
	if len(list) == 0 {
		return "no containers"
	}
	var parts []string
	for _, c := range list {
		word := c.State
		if c.Health != "" {
			word += "/" + c.Health
		}
		parts = append(parts, clean(c.Service, 40)+" "+clean(word, 30))
	}
	return clean(strings.Join(parts, ", "), 400)
}

// command runs a fixed command.
func (h *Host) command(ctx context.Context, _ string, m Command) (did Did, err error) {
	var out output
	err = h.run(ctx, m.Timeout.Or(2*time.Minute), &out, "", m.Argv...)
	var exit *exec.ExitError
	switch {
	case err == nil:
		did.Words, did.After = fmt.Sprintf("It ended well, with %d bytes of output.", out.total), "exit 0"
		return did, nil
	case errors.As(err, &exit):
		did.After = fmt.Sprintf("exit %d", exit.ExitCode())
		return did, failed("host-command-failed", fmt.Sprintf("The command %s ended with %d. %s", m.Name, exit.ExitCode(), out.last()))
	}
	return did, err
}
