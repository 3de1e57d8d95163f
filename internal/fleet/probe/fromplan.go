package probe

import "github.com/missionopsai/foundry/internal/plan"

// FromPlan is what a node is to watch of a plan's functions: the probes that
// name it in from, or name nobody. What looks at a machine itself (systemd,
// disk) and names nobody is for the hosts of its function. A target that
// cannot be read is watched nevertheless, and says so in its results.
func FromPlan(p *plan.File, self string) []Spec { return nil }
