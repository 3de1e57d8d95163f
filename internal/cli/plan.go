package cli

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/spf13/cobra"
)

// plan is the continuity plan: as a file, which can be written and judged
// anywhere, without a node; and as what a node keeps, approved.
func (a *app) plan() *cobra.Command {
	c := group("plan", "The continuity plan: what it says, what is wrong with it, what falls with what",
		a.planCheck(), a.planRules(), a.planExplain(), a.planSchema(), a.planSubjects(), a.planDiff(), a.planHash(), a.planGraph(), a.planWhatif(), a.planRunbook(), a.planFormat())
	c.AddCommand(a.planGoverned()...)
	return c
}

// planFile is the plan that commands read when none is named.
const planFile = "fleet.yaml"

// loadPlan reads the plan that the arguments name, or the one here.
func loadPlan(args []string) (*plan.Plan, error) {
	if len(args) == 0 {
		return plan.Load(planFile)
	}
	return plan.Load(args[0])
}

// atMostOnePlan is the arguments of commands that read one plan.
func atMostOnePlan(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usageError{fmt.Errorf("%q is one word too many: use `%s`", args[1], cmd.UseLine())}
	}
	return nil
}

// measuredFlag adds --measured to a command; the function reads what it names.
func measuredFlag(cmd *cobra.Command) func() (plan.Measured, error) {
	path := cmd.Flags().String("measured", "", "a JSON file with measured rates and times, in place of assumptions")
	return func() (m plan.Measured, err error) {
		if *path == "" {
			return m, nil
		}
		text, err := os.ReadFile(*path)
		if err == nil {
			err = json.Unmarshal(text, &m)
		}
		if err != nil {
			return m, problem.New(problem.Invalid, "measured-unreadable", "The measurements cannot be read: "+sentence(err.Error())).WithField(*path).WithMend("`foundry plan measured --json` writes such a file.").Wrap(err)
		}
		return m, nil
	}
}
