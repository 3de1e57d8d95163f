package lint

var fallbackRules = []Rule{}
