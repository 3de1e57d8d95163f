package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/daemon"
)

// schemaNode is the part of a JSON Schema that the reference shows.
type schemaNode struct {
	Ref         string                 `json:"$ref"`
	Type        string                 `json:"type"`
	Description string                 `json:"description"`
	Enum        []string               `json:"enum"`
	Required    []string               `json:"required"`
	Properties  orderedProperties      `json:"properties"`
	Items       *schemaNode            `json:"items"`
	Additional  json.RawMessage        `json:"additionalProperties"`
	Defs        map[string]*schemaNode `json:"$defs"`
}

// orderedProperties keeps the order in which the schema lists its fields.
type orderedProperties []struct {
	Name string
	Node *schemaNode
}

// UnmarshalJSON reads an object and keeps its order.
func (p *orderedProperties) UnmarshalJSON(text []byte) error {
	dec := json.NewDecoder(strings.NewReader(string(text)))
	if _, err := dec.Token(); err != nil {
		return err
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return err
		}
		node := &schemaNode{}
		if err := dec.Decode(node); err != nil {
			return err
		}
		*p = append(*p, struct {
			Name string
			Node *schemaNode
		}{name.(string), node})
	}
	return nil
}

// writeConfiguration renders the configuration's schema as Markdown tables.
func writeConfiguration(w io.Writer) error {
	text, err := config.Schema(&daemon.Config{}, "Foundry configuration")
	if err != nil {
		return err
	}
	var root schemaNode
	if err := json.Unmarshal(text, &root); err != nil {
		return err
	}
	fmt.Fprint(w, "# Configuration\n\nOne YAML file, given with `foundry up --config FILE` and checked with\n`foundry config check FILE`. Nothing in it is required. `foundry config schema`\nprints its JSON Schema for editors.\n")
	writeFields(w, &root, root.Defs, "", map[string]bool{})
	return nil
}

func writeFields(w io.Writer, n *schemaNode, defs map[string]*schemaNode, path string, seen map[string]bool) {
	title := path
	if title == "" {
		title = "Top level"
	}
	fmt.Fprintf(w, "\n## %s\n\n| field | type | |\n| --- | --- | --- |\n", title)
	type child struct {
		path string
		node *schemaNode
	}
	var children []child
	for _, p := range n.Properties {
		node, kind := resolve(p.Node, defs), ""
		switch {
		case node.Type == "array" && node.Items != nil:
			item := resolve(node.Items, defs)
			kind = "list of " + typeName(item)
			if len(item.Properties) > 0 {
				children = append(children, child{join(path, p.Name) + "[]", item})
			}
		default:
			kind = typeName(node)
			if len(node.Properties) > 0 {
				children = append(children, child{join(path, p.Name), node})
			}
		}
		text := p.Node.Description
		if text == "" {
			text = node.Description
		}
		if len(node.Enum) > 0 {
			text = strings.TrimSpace("One of `" + strings.Join(node.Enum, "`, `") + "`. " + text)
		}
		for _, r := range n.Required {
			if r == p.Name {
				kind += ", required"
			}
		}
		fmt.Fprintf(w, "| `%s` | %s | %s |\n", p.Name, kind, strings.ReplaceAll(text, "|", "\\|"))
	}
	for _, c := range children {
		if !seen[c.path] {
			seen[c.path] = true
			writeFields(w, c.node, defs, c.path, seen)
		}
	}
}

func resolve(n *schemaNode, defs map[string]*schemaNode) *schemaNode {
	if d := defs[strings.TrimPrefix(n.Ref, "#/$defs/")]; n.Ref != "" && d != nil {
		return d
	}
	return n
}

func typeName(n *schemaNode) string {
	if n.Type == "object" && len(n.Properties) == 0 {
		return "map"
	}
	if n.Type == "object" {
		return "fields"
	}
	return n.Type
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
