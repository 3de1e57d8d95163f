package lint

var dependencyRules = []Rule{}
