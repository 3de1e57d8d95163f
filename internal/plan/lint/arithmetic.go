package lint

var arithmeticRules = []Rule{}
