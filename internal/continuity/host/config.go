package host

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/problem"
)

// Config says what a step of a recovery may do on this machine. The zero value
// allows nothing. Nothing of what is run comes from an order: an order says which
// act and for which functions, and this says what that is here.
type Config struct {
	Units      []Unit      `yaml:"units,omitempty" json:"units,omitempty" jsonschema:"description=Units of systemd that may be started and stopped."`
	Compose    []Project   `yaml:"compose,omitempty" json:"compose,omitempty" jsonschema:"description=Compose projects that may be brought up and down."`
	Commands   []Command   `yaml:"commands,omitempty" json:"commands,omitempty" jsonschema:"description=Commands that may be run. They are run as written\\, without a shell."`
	Quarantine *Quarantine `yaml:"quarantine,omitempty" json:"quarantine,omitempty" jsonschema:"description=How this machine is cut off from its network. Without it no step can."`
	Capture    *Capture    `yaml:"capture,omitempty" json:"capture,omitempty" jsonschema:"description=What is kept as evidence before anything is changed. Without it no step can."`
	Programs   Programs    `yaml:"programs,omitempty" json:"programs,omitzero"`
}

// Programs says where programs are.
type Programs struct {
	Systemctl string   `yaml:"systemctl,omitempty" json:"systemctl,omitempty" jsonschema:"description=Default /usr/bin/systemctl."`
	Compose   []string `yaml:"compose,omitempty" json:"compose,omitempty" jsonschema:"description=Default: docker compose or podman compose\\, whichever is there."`
	Nft       string   `yaml:"nft,omitempty" json:"nft,omitempty" jsonschema:"description=Default /usr/sbin/nft."`
}

// Unit is a unit of systemd.
type Unit struct {
	Name      string          `yaml:"name" json:"name" jsonschema:"required,description=With its suffix\\, such as caddy.service."`
	Functions []string        `yaml:"functions,omitempty" json:"functions,omitempty" jsonschema:"description=Functions of the plan that it belongs to. Without any it is started by every step that starts something here."`
	May       []string        `yaml:"may,omitempty" json:"may,omitempty" jsonschema:"description=start\\, stop\\, restart. Default start and stop."`
	Timeout   config.Duration `yaml:"timeout,omitempty" json:"timeout,omitzero" jsonschema:"type=string,description=Default 2m."`
}

// Project is a Compose project.
type Project struct {
	Name      string          `yaml:"name" json:"name" jsonschema:"required"`
	File      string          `yaml:"file" json:"file" jsonschema:"required,description=Absolute path of its compose file."`
	Functions []string        `yaml:"functions,omitempty" json:"functions,omitempty"`
	May       []string        `yaml:"may,omitempty" json:"may,omitempty" jsonschema:"description=start\\, stop. Default both."`
	Timeout   config.Duration `yaml:"timeout,omitempty" json:"timeout,omitzero" jsonschema:"type=string,description=Default 5m."`
}

// Command is a fixed command.
type Command struct {
	Name      string          `yaml:"name" json:"name" jsonschema:"required"`
	Argv      []string        `yaml:"argv" json:"argv" jsonschema:"required,description=The program by its absolute path\\, and its arguments."`
	On        []string        `yaml:"on" json:"on" jsonschema:"required,description=Acts it belongs to: start\\, stop\\, switch\\, rebuild\\, certificate\\, failback."`
	Functions []string        `yaml:"functions,omitempty" json:"functions,omitempty"`
	Timeout   config.Duration `yaml:"timeout,omitempty" json:"timeout,omitzero" jsonschema:"type=string,description=Default 2m."`
}

// Quarantine says what stays open.
type Quarantine struct {
	Admin []string        `yaml:"admin,omitempty" json:"admin,omitempty" jsonschema:"description=Addresses and networks from which administrators still reach this machine. Without any nobody does."`
	Ports []int           `yaml:"ports,omitempty" json:"ports,omitempty" jsonschema:"description=Ports on which they do. Default 22."`
	For   config.Duration `yaml:"for,omitempty" json:"for,omitzero" jsonschema:"type=string,description=After how long somebody has to look at it again. Default 24h."`
}

// Capture says what is kept.
type Capture struct {
	Commands []CaptureCommand `yaml:"commands,omitempty" json:"commands,omitempty"`
	Disks    []string         `yaml:"disks,omitempty" json:"disks,omitempty" jsonschema:"description=Files and devices of which the SHA-256 is taken\\, by absolute path."`
	MaxBytes int64            `yaml:"max_bytes,omitempty" json:"max_bytes,omitempty" jsonschema:"description=Most that is kept of the output of one command. Default 268435456 (256 MiB)."`
}

// CaptureCommand is a command whose output is evidence.
type CaptureCommand struct {
	Name    string          `yaml:"name" json:"name" jsonschema:"required"`
	Argv    []string        `yaml:"argv" json:"argv" jsonschema:"required"`
	Kind    string          `yaml:"kind,omitempty" json:"kind,omitempty" jsonschema:"enum=memory,enum=disk,enum=logs,enum=other,description=Default other."`
	Timeout config.Duration `yaml:"timeout,omitempty" json:"timeout,omitzero" jsonschema:"type=string,description=Default 10m."`
}

// Acts that services and commands belong to.
const (
	Start       = "start"
	Stop        = "stop"
	Restart     = "restart"
	Switch      = "switch"
	Rebuild     = "rebuild"
	Certificate = "certificate"
	Failback    = "failback"
)

var (
	unitRule = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_@:.-]{0,200}\.(service|socket|target|timer|path|mount)$`)
	nameRule = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
)

// Validate reports the first thing that cannot work. It runs nothing.
func (c Config) Validate() error {
	names := map[string]bool{}
	once := func(field, name string, ok bool) error {
		if !ok || names[name] {
			return problem.New(problem.Invalid, "allow-name", fmt.Sprintf("%.80q is no name that can be allowed, or stands there twice.", name)).WithField(field)
		}
		names[name] = true
		return nil
	}
	for i, u := range c.Units {
		field := fmt.Sprintf("units[%d]", i)
		if err := once(field+".name", u.Name, unitRule.MatchString(u.Name)); err != nil {
			return problem.From(err).WithMend("Write the whole name of a unit, such as caddy.service.")
		}
		if err := within(field+".may", u.May, Start, Stop, Restart); err != nil {
			return err
		}
	}
	for i, p := range c.Compose {
		field := fmt.Sprintf("compose[%d]", i)
		if err := once(field+".name", p.Name, nameRule.MatchString(p.Name)); err != nil {
			return err
		}
		if err := absolute(field+".file", p.File); err != nil {
			return err
		}
		if err := within(field+".may", p.May, Start, Stop); err != nil {
			return err
		}
	}
	for i, m := range c.Commands {
		field := fmt.Sprintf("commands[%d]", i)
		if err := once(field+".name", m.Name, nameRule.MatchString(m.Name)); err != nil {
			return err
		}
		if err := argv(field+".argv", m.Argv); err != nil {
			return err
		}
		if len(m.On) == 0 {
			return problem.New(problem.Invalid, "allow-on", "A command is allowed for certain acts.").WithField(field + ".on").WithMend("Name them, for example on: [start].")
		}
		if err := within(field+".on", m.On, Start, Stop, Switch, Rebuild, Certificate, Failback); err != nil {
			return err
		}
	}
	for _, check := range []func() error{c.checkQuarantine, c.checkCapture, c.checkPrograms} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c Config) checkQuarantine() error {
	if c.Quarantine == nil {
		return nil
	}
	for i, a := range c.Quarantine.Admin {
		if _, err := prefix(a); err != nil {
			return problem.New(problem.Invalid, "allow-admin", fmt.Sprintf("%.60q is no address and no network.", a)).WithField(fmt.Sprintf("quarantine.admin[%d]", i)).WithMend("Write for example 198.51.100.7 or 2001:db8::/64.")
		}
	}
	for i, p := range c.Quarantine.Ports {
		if p < 1 || p > 65535 {
			return problem.New(problem.Invalid, "allow-port", fmt.Sprintf("%d is no port.", p)).WithField(fmt.Sprintf("quarantine.ports[%d]", i))
		}
	}
	return nil
}

func (c Config) checkCapture() error {
	if c.Capture == nil {
		return nil
	}
	for i, m := range c.Capture.Commands {
		field := fmt.Sprintf("capture.commands[%d]", i)
		if !nameRule.MatchString(m.Name) {
			return problem.New(problem.Invalid, "allow-name", fmt.Sprintf("%.80q is no name that can be allowed.", m.Name)).WithField(field + ".name")
		}
		if err := argv(field+".argv", m.Argv); err != nil {
			return err
		}
		if err := within(field+".kind", []string{m.Kind}, "", "memory", "disk", "logs", "other"); err != nil {
			return err
		}
	}
	for i, p := range c.Capture.Disks {
		if err := absolute(fmt.Sprintf("capture.disks[%d]", i), p); err != nil {
			return err
		}
	}
	return nil
}

func (c Config) checkPrograms() error {
	for field, path := range map[string]string{"programs.systemctl": c.Programs.Systemctl, "programs.nft": c.Programs.Nft} {
		if path != "" {
			if err := absolute(field, path); err != nil {
				return err
			}
		}
	}
	if len(c.Programs.Compose) > 0 {
		return argv("programs.compose", c.Programs.Compose)
	}
	return nil
}

func within(field string, words []string, of ...string) error {
	for _, w := range words {
		if !slices.Contains(of, w) {
			e := problem.New(problem.Invalid, "allow-word", fmt.Sprintf("%.40q is none of: %s.", w, strings.Join(of, ", "))).WithField(field)
			if near := config.Nearest(w, of); near != "" {
				e.Mend = fmt.Sprintf("Did you mean %q?", near)
			}
			return e
		}
	}
	return nil
}

func absolute(field, path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || strings.ContainsRune(path, 0) {
		return problem.New(problem.Invalid, "allow-path", fmt.Sprintf("%.80q is no absolute path.", path)).WithField(field).WithMend("Write the whole path, beginning with /.")
	}
	return nil
}

// shells read what they are given as commands; with one of them nothing would be
// fixed any more.
var shells = []string{"sh", "bash", "dash", "zsh", "ksh", "busybox", "env", "sudo", "su", "ssh", "xargs"}

func argv(field string, args []string) error {
	if len(args) == 0 {
		return problem.New(problem.Invalid, "allow-argv", "A command is a program and its arguments.").WithField(field)
	}
	if err := absolute(field, args[0]); err != nil {
		return err
	}
	if slices.Contains(shells, filepath.Base(args[0])) {
		return problem.New(problem.Denied, "allow-shell", filepath.Base(args[0])+" runs whatever it is given: it is not allowed.").WithField(field).WithMend("Name the program itself, or a script of its own file.")
	}
	for _, a := range args {
		if strings.ContainsRune(a, 0) {
			return problem.New(problem.Invalid, "allow-argv", "An argument has a character that no argument can have.").WithField(field)
		}
	}
	return nil
}

func prefix(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a.WithZone(""), a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	return p.Masked(), err
}

func allows(may []string, act string, otherwise ...string) bool {
	if len(may) == 0 {
		may = otherwise
	}
	return slices.Contains(may, act)
}

// concerns says whether something belongs to one of the functions of a step.
func concerns(its, asked []string) bool {
	return len(its) == 0 || slices.ContainsFunc(its, func(f string) bool { return slices.Contains(asked, f) })
}
