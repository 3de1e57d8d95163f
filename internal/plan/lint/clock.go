package lint

var clockRules = []Rule{}
