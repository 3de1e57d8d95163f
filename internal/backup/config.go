package backup

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/backup/mirror"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/problem"
)

// Config is the section backup of the configuration file. Without a target
// there are no backups, and the node says so wherever it is asked.
type Config struct {
	Targets        []target.Config     `yaml:"targets,omitempty" json:"targets,omitempty" jsonschema:"description=Places for backups. Each gets everything that its kind can hold. Without one there are no backups."`
	DailyAt        string              `yaml:"daily_at,omitempty" json:"daily_at,omitempty" jsonschema:"pattern=^([01][0-9]|2[0-3]):[0-5][0-9]$,description=When the daily backup begins\\, UTC. Default 02:15."`
	FullEvery      int                 `yaml:"full_every,omitempty" json:"full_every,omitempty" jsonschema:"minimum=0,maximum=31,description=Days between full backups of the database; the days between get differential ones. Default 7."`
	ArchiveTimeout config.Duration     `yaml:"archive_timeout,omitempty" json:"archive_timeout,omitempty" jsonschema:"description=How long what was written may wait before it is archived: with the time that takes\\, what a loss of this node costs. Default 30s\\, at most 60s."`
	KeepDays       int                 `yaml:"keep_days,omitempty" json:"keep_days,omitempty" jsonschema:"minimum=0,maximum=3650,description=Days that any moment can be restored. Default 30."`
	DrillEvery     config.Duration     `yaml:"drill_every,omitempty" json:"drill_every,omitempty" jsonschema:"description=How often a restore is tried and proven. Default 168h\\, at most 2208h (92 days)."`
	RTO            config.Duration     `yaml:"rto,omitempty" json:"rto,omitempty" jsonschema:"description=Recovery time objective that drills are measured against. Default 4h."`
	RPO            config.Duration     `yaml:"rpo,omitempty" json:"rpo,omitempty" jsonschema:"description=Recovery point objective. Default 24h."`
	Files          []string            `yaml:"files,omitempty" json:"files,omitempty" jsonschema:"description=Files and directories to back up beside those of the node itself."`
	Mirrors        []mirror.Config     `yaml:"mirrors,omitempty" json:"mirrors,omitempty" jsonschema:"description=Git repositories to mirror: fetched before every backup of files\\, and backed up with them."`
	Gitea          *mirror.GiteaConfig `yaml:"gitea,omitempty" json:"gitea,omitempty" jsonschema:"description=A Gitea server whose repositories are all mirrored."`
	Processes      int                 `yaml:"processes,omitempty" json:"processes,omitempty" jsonschema:"minimum=0,maximum=64,description=Processors that an engine may use. Default 2."`
	ScratchDir     string              `yaml:"scratch_dir,omitempty" json:"scratch_dir,omitempty" jsonschema:"description=Where drills restore to; needs room for one copy of the database. Default below the data directory."`
	Runtime        string              `yaml:"runtime_dir,omitempty" json:"runtime_dir,omitempty" jsonschema:"description=Directory in memory for secrets that the engines use. Default: found below /run or /dev/shm."`
}

// Defaults of the section.
const (
	defaultDailyAt = "02:15"
	defaultFull    = 7
	defaultArchive = 30 * time.Second
	defaultKeep    = 30
	defaultDrill   = 7 * 24 * time.Hour
	defaultRTO     = 4 * time.Hour
	defaultRPO     = 24 * time.Hour
	mostArchive    = time.Minute // recovery point, obligation O-33 aside: what the design promises
	mostDrill      = 92 * 24 * time.Hour
)

// WithDefaults fills in what was left out.
func (c Config) WithDefaults() Config {
	if c.DailyAt == "" {
		c.DailyAt = defaultDailyAt
	}
	if c.FullEvery == 0 {
		c.FullEvery = defaultFull
	}
	if c.KeepDays == 0 {
		c.KeepDays = defaultKeep
	}
	if c.Processes == 0 {
		c.Processes = 2
	}
	c.ArchiveTimeout = config.Duration(c.ArchiveTimeout.Or(defaultArchive))
	c.DrillEvery = config.Duration(c.DrillEvery.Or(defaultDrill))
	c.RTO, c.RPO = config.Duration(c.RTO.Or(defaultRTO)), config.Duration(c.RPO.Or(defaultRPO))
	return c
}

// Validate reports the first thing that contradicts itself.
func (c Config) Validate() error {
	c = c.WithDefaults()
	if _, err := time.Parse("15:04", c.DailyAt); err != nil {
		return invalid("daily_at", fmt.Sprintf("%q is no time of a day.", c.DailyAt), "Write hours and minutes, UTC, such as 02:15.")
	}
	if d := time.Duration(c.ArchiveTimeout); d < time.Second || d > mostArchive {
		return invalid("archive_timeout", fmt.Sprintf("What was written may wait for the archive between 1s and %s, not %s.", mostArchive, d), "Leave it out, or write 30s.")
	}
	if d := time.Duration(c.DrillEvery); d < time.Hour || d > mostDrill {
		return invalid("drill_every", fmt.Sprintf("Drills are at least an hour and at most 92 days apart, not %s.", d), "Leave it out: a restore is then tried every week.")
	}
	if c.RTO <= 0 || c.RPO <= 0 {
		return invalid("rto", "Objectives are longer than nothing.", "Write, for example, rto: 4h and rpo: 24h.")
	}
	seen := map[string]bool{}
	for i, t := range c.Targets {
		field := fmt.Sprintf("backup.targets[%d]", i)
		if seen[t.Name] {
			return problem.New(problem.Invalid, "target-twice", fmt.Sprintf("Two targets are named %q.", t.Name)).WithField(field + ".name").WithMend("Give each a name of its own.")
		}
		seen[t.Name] = true
		if err := t.Validate(field); err != nil {
			return err
		}
	}
	mirrors := map[string]bool{}
	for i, m := range c.Mirrors {
		if name := strings.ToLower(m.Name); mirrors[name] {
			return invalid(fmt.Sprintf("mirrors[%d].name", i), fmt.Sprintf("Two mirrors are named %q.", m.Name), "Give each a name of its own.")
		} else {
			mirrors[name] = true
		}
	}
	for i, f := range c.Files {
		if !filepath.IsAbs(f) {
			return invalid(fmt.Sprintf("files[%d]", i), fmt.Sprintf("%q is not an absolute path.", f), "Write the whole path.")
		}
	}
	return nil
}

func invalid(field, detail, mend string) error {
	return problem.New(problem.Invalid, "backup-config", detail).WithField("backup." + field).WithMend(mend)
}

// daily is the time of the day of the daily backup.
func (c Config) daily() time.Duration {
	t, err := time.Parse("15:04", c.DailyAt)
	if err != nil {
		t, _ = time.Parse("15:04", defaultDailyAt)
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
}

func (c Config) keep() time.Duration { return time.Duration(c.KeepDays) * 24 * time.Hour }
