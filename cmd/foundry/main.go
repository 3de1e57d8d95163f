// Command foundry is the Foundry platform: gateway, console and operator's tool in one binary.
package main

import (
	"os"

	"github.com/missionopsai/foundry/internal/cli"
)

// version is set by the build: -ldflags "-X main.version=…".
var version = "dev"

func main() {
	os.Exit(cli.Run(version, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
