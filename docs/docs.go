// Package docs carries the documents that are needed when there is nothing else
// to look things up in: the console shows them to be printed.
package docs

import "embed"

// Sheets are those documents, in Markdown, by their path below docs/.
//
//go:embed runbooks/bare-machine.md guides/emergency-kit.md
var Sheets embed.FS
