package wire

import "slices"

// position says what an object stands for, and so how its type is judged.
type position uint8

const (
	posInner   position = iota // anything inside a part: its type is not judged
	posMessage                 // a member of messages: it has no type
	posItem                    // a member of the Responses API's input
	posPart                    // a part of content
	posAudio                   // an assistant's earlier audio, named by id
)

// class is what the type of a part or item stands for.
type class uint8

const (
	classUnknown class = iota
	classNone          // it has no type
	classText          // "text": its data, too, is text
	classBase64
	classPlain // text in another guise, a tool call, or a tool's result
	classThinking
	classImage
	classDocument
	classAudio
	classVideo
	classInert     // its url tells where something came from; nobody fetches it
	classReference // stands for something stored at the upstream
)

// classify fails closed: a type it does not list is unknown, and a risk.
func classify(t []byte) class {
	switch string(t) {
	case "text":
		return classText
	case "base64":
		return classBase64
	case "message", "tool_use", "tool_result", "input_text", "output_text", "summary_text",
		"refusal", "function_call", "function_call_output", "custom_tool_call",
		"custom_tool_call_output", "reference", "tool_reference", "search_result":
		return classPlain
	case "thinking", "redacted_thinking", "reasoning", "reasoning_text":
		return classThinking
	case "image_url", "input_image", "image", "computer_screenshot":
		return classImage
	case "file", "input_file", "document", "document_url":
		return classDocument
	case "input_audio", "audio", "audio_url":
		return classAudio
	case "video", "video_url", "input_video":
		return classVideo
	case "item_reference":
		return classReference
	case "web_search_result", "web_fetch_result", "url_citation", "web_search_result_location":
		return classInert
	// Replayed calls which the client carried out, and replayed results of
	// hosted tools: context, not orders. What they name by id is caught by key.
	case "computer_call", "computer_call_output", "local_shell_call", "local_shell_call_output",
		"shell_call", "shell_call_output", "apply_patch_call", "apply_patch_call_output",
		"compaction", "compaction_trigger", "additional_tools", "tool_search_call",
		"tool_search_output", "web_search_call", "file_search_call", "code_interpreter_call",
		"browser_state", "web_search_tool_result", "web_search_tool_result_error",
		"web_fetch_tool_result", "web_fetch_tool_result_error",
		"tool_search_tool_result", "tool_search_tool_search_result", "tool_search_tool_result_error",
		"code_execution_tool_result", "code_execution_result", "code_execution_tool_result_error",
		"encrypted_code_execution_result",
		"bash_code_execution_tool_result", "bash_code_execution_result", "bash_code_execution_tool_result_error",
		"text_editor_code_execution_tool_result", "text_editor_code_execution_view_result",
		"text_editor_code_execution_create_result", "text_editor_code_execution_str_replace_result",
		"text_editor_code_execution_tool_result_error",
		"code_execution_output", "bash_code_execution_output", "logs":
		return classPlain
	}
	return classUnknown
}

// list reads messages (objects only) or the Responses API's input (also a
// string).
func (s *scan) list(pos position) {
	switch ch := s.peek(); {
	case ch == '[':
	case ch == 'n' || ch == '"' && pos == posItem:
		s.skip()
		return
	default:
		s.wrongType("a list")
		return
	}
	n := 0
	for more := s.open(']'); more; more = s.next(']') {
		s.r.path = append(s.r.path, segment{start: n})
		if s.peek() != '{' {
			s.wrongType("an object")
			return
		}
		s.object(pos)
		if s.fault != faultNone {
			return
		}
		s.leave()
		n++
	}
}

// node reads any value in which risks may be found.
func (s *scan) node(pos position) {
	switch s.peek() {
	case '{':
		s.object(pos)
	case '[':
		n := 0
		for more := s.open(']'); more; more = s.next(']') {
			s.r.path = append(s.r.path, segment{start: n})
			s.node(pos)
			if s.fault != faultNone {
				return
			}
			s.leave()
			n++
		}
	default:
		s.skip()
	}
}

// part is what is known of the object being read.
type part struct {
	had     seen
	pos     position
	class   class
	unknown string // the name of an unknown type
	mark    int    // the risks before it
	url     int    // index of the risk of its own url, or -1
	data    int    // index of the risk of its own data, or -1
	size    int64  // bytes of its own data
}

func (s *scan) object(pos position) {
	p := part{pos: pos, class: classNone, mark: len(s.r.Risky), url: -1, data: -1}
	for more := s.open('}'); more; more = s.next('}') {
		_, id, h := s.member(&p.had)
		if s.fault != faultNone {
			return
		}
		s.partMember(&p, id, h)
		if s.fault != faultNone {
			return
		}
		s.leave()
	}
	if s.fault == faultNone {
		s.partEnd(&p)
	}
}

func (s *scan) partMember(p *part, id keyID, h int) {
	switch id {
	case kRole, kText, kName, kNeutral, kOpaque, kFunction, kInput, kFormat:
		if id == kText && s.peek() != '"' {
			s.node(posInner)
		} else {
			s.skip()
		}
	case kContent, kParts, kThinking:
		s.node(posPart)
	case kType:
		s.partType(p)
	case kID:
		if p.pos == posAudio && s.given() {
			s.risky("audio_id")
		}
		s.skip()
	case kURL:
		n := len(s.r.Risky)
		if s.url("url"); len(s.r.Risky) > n && n >= 0 {
			p.url = n
		}
	case kData:
		s.partData(p)
	case kTools:
		s.tools()
	case kTool:
		s.node1(s.tool)
	case kSchema:
		s.schema()
	case kCacheControl:
		s.feature(PromptCaching)
	default:
		s.leaf(id, h)
	}
}

// node1 reads an object with f, and anything else as data.
func (s *scan) node1(f func()) {
	if s.peek() == '{' {
		f()
	} else {
		s.skip()
	}
}

func (s *scan) partType(p *part) {
	switch s.peek() {
	case 'n':
		s.skip()
	case '"':
		t := s.text()
		if s.fault != faultNone {
			return
		}
		if p.class = classify(t); p.class == classUnknown && p.pos >= posItem {
			p.unknown = cleanType(t)
		}
	default:
		p.class, p.unknown = classUnknown, "unknown"
		s.skip()
	}
}

// partData reads data: base64 of some medium, or text if the type says so.
func (s *scan) partData(p *part) {
	if s.peek() != '"' {
		s.node(posInner)
		return
	}
	raw := s.raw()
	p.size = int64(len(raw))
	if hasScheme(raw) {
		p.data = len(s.r.Risky)
		s.risky("file_url")
	}
}

// leaf reads the value of a key that points to something, or of one without a
// meaning here.
func (s *scan) leaf(id keyID, h int) {
	switch {
	case id == kImageURL:
		s.url("image_url")
	case id == kVideoURL:
		s.url("video_url")
	case id == kAudioURL:
		s.url("audio_url")
	case id == kFileURL || id == kDocumentURL:
		s.url("file_url")
	case id == kURL || h == hintURL:
		s.url("url")
	case id == kImage:
		s.medium("image_url")
	case id == kVideo:
		s.medium("video_url")
	case id == kFile || id == kFileData:
		s.medium("file_url")
	case id == kAudio:
		s.r.Features |= Audio
		if s.peek() == '{' {
			s.object(posAudio)
		} else {
			s.medium("audio_url")
		}
	case id == kFileID || h == hintFileID:
		s.hosted("file_id")
	case id == kContainer:
		s.hosted("container")
	default:
		s.node(posInner)
	}
}

// partEnd judges an object once all of it has been seen.
func (s *scan) partEnd(p *part) {
	r := s.r
	switch p.class {
	case classText:
		if p.data >= 0 {
			r.Risky = slices.Delete(r.Risky, p.data, p.data+1)
		}
	case classInert:
		if p.url >= 0 {
			r.Risky = slices.Delete(r.Risky, p.url, p.url+1)
		}
	}
	if p.class == classBase64 || p.had.has(kFormat) {
		r.MediaBytes += p.size
	}
	if p.pos == posItem && (p.class == classReference || p.class == classNone && !p.had.has(kRole)) {
		s.risky("item_reference")
	}
	judged := p.pos == posItem || p.pos == posPart
	switch p.class {
	case classUnknown:
		if judged {
			if s.risky("content." + p.unknown); len(r.Risky) > 0 {
				r.Risky[len(r.Risky)-1].Path += ".type"
			}
		}
	case classReference:
		if p.pos == posPart {
			s.risky("item_reference")
		}
	case classThinking:
		r.Features |= Reasoning
	case classImage:
		s.rename(p.mark, "image_url")
	case classDocument:
		s.rename(p.mark, "file_url")
	case classAudio:
		s.rename(p.mark, "audio_url")
	case classVideo:
		s.rename(p.mark, "video_url")
	}
	s.count(p, judged)
}

// count counts media parts, typed or, as vLLM takes them, by key alone.
func (s *scan) count(p *part, judged bool) {
	r := s.r
	switch {
	case judged && p.class == classImage || p.had.has(kImageURL) || p.had.has(kImage):
		r.Images++
		r.Features |= Images
	case judged && p.class == classDocument:
		r.Parts++
		r.Features |= Documents
	case judged && p.class == classAudio || p.had.has(kAudioURL):
		r.Parts++
		r.Features |= Audio
	case judged && p.class == classVideo || p.had.has(kVideoURL) || p.had.has(kVideo):
		r.Parts++
		r.Features |= Video
	}
}
