package scenario

import "strings"

// Part is one part of the language, for people.
type Part struct {
	Title string  `json:"title"`
	Forms []Shown `json:"forms"`
}

// Shown is one line of the language as it is written.
type Shown struct {
	Write string `json:"write"`
	Says  string `json:"says"`
	Modes []Mode `json:"modes,omitempty"`
}

// Language lists every line that a scenario can have.
func Language() []Part {
	head := []Shown{
		{Write: `scenario NAME "Title"`, Says: "What it is called; the first line."},
		{Write: "source WORDS", Says: "Where a plan or policy asks for it."},
		{Write: "of NAME", Says: "The scenario of the plan that it rehearses."},
		{Write: "target MEASURE within TIME", Says: "What has to be reached."},
		{Write: "target MEASURE at most NUMBER", Says: "The same, of what is counted: lost, writers."},
		{Write: "fleet { … }", Says: "What a sandbox sets up."},
		{Write: "sandbox { … }, desktop { … }, live { … }", Says: `What is done in a mode: steps, as step "Title" { … }.`},
	}
	fleet := []Shown{
		{Write: "node NAME ROLE …", Says: "A node and its roles: " + strings.Join(roles, ", ") + "."},
		{Write: "service NAME", Says: "A service beside them: " + strings.Join(services[:4], ", ") + "."},
		{Write: "database own|patroni", Says: "What brings the database back: Foundry from backups, or Patroni by its standby."},
		{Write: "data SIZE", Says: "How much is in the database: 100MB, 1GB."},
	}
	steps := []Shown{
		{Write: "wait until CONDITION [and CONDITION …] within TIME", Says: "Waits until all of them are so; that they never were is a failure.", Modes: inSandbox},
		{Write: "expect CONDITION [and CONDITION …]", Says: "They have to be so now.", Modes: inSandbox},
	}
	for _, f := range Forms {
		steps = append(steps, Shown{usage(f.Pattern), f.Says, f.Modes})
	}
	var conditions, measures []Shown
	for _, f := range Conditions {
		conditions = append(conditions, Shown{"[not] " + usage(f.Pattern), f.Says, f.Modes})
	}
	for _, m := range keys(Measures) {
		measures = append(measures, Shown{Write: m, Says: Measures[m]})
	}
	return []Part{{"Outside of blocks", head}, {"Lines of a fleet", fleet}, {"Lines of a step", steps}, {"Conditions", conditions}, {"Measures", measures}}
}
