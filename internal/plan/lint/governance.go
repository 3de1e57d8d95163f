package lint

var governanceRules = []Rule{}
