package lint

var sequenceRules = []Rule{}
