package console

import "strings"

// docPart is a part of a document: as much of Markdown as the documents that come
// with the program are written in.
type docPart struct {
	kind  string // h2, h3, p, ul, ol, code or table
	text  string
	items []string
	rows  [][]string // of a table; the first is its head
}

// styledText is a piece of text in one style.
type styledText struct {
	style string // strong, code or empty
	text  string
}

// document reads Markdown. Whatever it does not know is text.
func document(text string) (out []docPart) {
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	for i := 0; i < len(lines); {
		line := lines[i]
		trimmed := strings.TrimSpace(line)
		switch {
		case trimmed == "":
			i++
		case strings.HasPrefix(trimmed, "```"):
			var code []string
			for i++; i < len(lines) && !strings.HasPrefix(strings.TrimSpace(lines[i]), "```"); i++ {
				code = append(code, lines[i])
			}
			i++
			out = append(out, docPart{kind: "code", text: strings.Join(code, "\n")})
		case strings.HasPrefix(line, "#"):
			level := len(line) - len(strings.TrimLeft(line, "#"))
			if level > 1 { // the first is the page's own title
				out = append(out, docPart{kind: []string{"h2", "h3"}[min(level-2, 1)], text: strings.TrimSpace(line[level:])})
			}
			i++
		case strings.HasPrefix(trimmed, "|"):
			var rows [][]string
			for ; i < len(lines) && strings.HasPrefix(strings.TrimSpace(lines[i]), "|"); i++ {
				if row := tableCells(lines[i]); row != nil {
					rows = append(rows, row)
				}
			}
			out = append(out, docPart{kind: "table", rows: rows})
		case bullet(line) != "":
			kind := bullet(line)
			var items []string
			for ; i < len(lines) && strings.TrimSpace(lines[i]) != "" && !strings.HasPrefix(lines[i], "#"); i++ {
				if bullet(lines[i]) != "" {
					_, rest, _ := strings.Cut(strings.TrimSpace(lines[i]), " ")
					items = append(items, rest)
				} else {
					items[len(items)-1] += " " + strings.TrimSpace(lines[i])
				}
			}
			out = append(out, docPart{kind: kind, items: items})
		default:
			var paragraph []string
			for ; i < len(lines) && strings.TrimSpace(lines[i]) != "" && !strings.HasPrefix(lines[i], "#") && !strings.HasPrefix(lines[i], "```") && bullet(lines[i]) == ""; i++ {
				paragraph = append(paragraph, strings.TrimSpace(lines[i]))
			}
			out = append(out, docPart{kind: "p", text: strings.Join(paragraph, " ")})
		}
	}
	return out
}

// bullet is the kind of list that a line is an item of; none: empty.
func bullet(line string) string {
	mark, rest, found := strings.Cut(strings.TrimSpace(line), " ")
	switch {
	case !found || rest == "":
	case mark == "-" || mark == "*":
		return "ul"
	case len(mark) > 1 && strings.HasSuffix(mark, ".") && strings.Trim(mark[:len(mark)-1], "0123456789") == "":
		return "ol"
	}
	return ""
}

// tableCells are those of a row of a table; nil: it is the line under the head.
func tableCells(line string) (out []string) {
	if strings.Trim(line, "|-: ") == "" {
		return nil
	}
	for _, c := range strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|") {
		out = append(out, strings.TrimSpace(c))
	}
	return out
}

// styles takes a line apart: **strong**, `code` and [text](link). A link leads
// nowhere on paper: its text stays.
func styles(text string) (out []styledText) {
	for text != "" {
		at := strings.IndexAny(text, "*`[")
		if at < 0 {
			return append(out, styledText{"", text})
		}
		if at > 0 {
			out, text = append(out, styledText{"", text[:at]}), text[at:]
		}
		inner, rest, style := "", "", ""
		switch {
		case strings.HasPrefix(text, "**"):
			inner, rest, _ = strings.Cut(text[2:], "**")
			style = "strong"
		case text[0] == '`':
			inner, rest, _ = strings.Cut(text[1:], "`")
			style = "code"
		case text[0] == '[' && strings.Contains(text, "]("):
			label, after, _ := strings.Cut(text[1:], "](")
			inner = label
			_, rest, _ = strings.Cut(after, ")")
		default:
			inner, rest = text[:1], text[1:]
		}
		out, text = append(out, styledText{style, inner}), rest
	}
	return out
}
