// Package translate knows how to say in one model API's dialect what was said
// in the other's: OpenAI chat completions and Anthropic messages, requests,
// answers, streams and errors, in both directions.
//
// It is pure. Its rule is that nothing is dropped in silence: a request that
// the other dialect cannot express is refused with a *problem.Error of kind
// Unsupported and code "not-translatable" that names the JSON path and says
// what to do, and so is every member this package has not heard of, matched by
// exact name. A request that breaks its own dialect's rules is Invalid,
// "request-invalid". An answer that cannot be expressed is of kind Upstream,
// because its client did nothing wrong: code "not-translatable", or
// "upstream-malformed" if it breaks its own dialect. In answers, members nobody
// knows are passed over (both vendors and all compatible servers add them);
// content nobody knows is not.
//
// Upstream error text is passed on as it is: the caller redacts it.
//
// # What goes how
//
// Requests are written for anthropic-version 2023-06-01 or, by Options,
// 2026-10-21, which has no sampling parameters any more; there the default
// values 1 are left out and others refused. Either is as the TypeScript SDKs
// openai 6.49 and @anthropic-ai/sdk 1.12 type it.
//
//	OpenAI                                 Anthropic
//	leading system, developer messages     system
//	later ones, between user and assistant system messages there (newer models; others answer 400)
//	later ones elsewhere                   refused
//	text, image_url, file (PDF) parts      text, image, document blocks
//	image detail auto, high                nothing: it always looks as closely as it can
//	image detail low, audio, file ids      refused
//	tool messages in a row                 one user message of tool_result blocks
//	"Error: …" as a tool's text            ← is_error, which OpenAI has no flag for
//	images in tool messages (compatible    → images in tool_result; the way back is refused,
//	servers have them)                       because OpenAI itself has none
//	refusal in the history                 a text of the assistant
//	refusal in an answer                   text, stop_reason refusal; explanation → refusal
//	tools[].function, strict               tools[], strict
//	tool_choice none auto required {name}  none auto any tool
//	parallel_tool_calls false              disable_parallel_tool_use
//	response_format json_schema            output_config.format; always strict, the name is a label
//	response_format json_object            refused
//	reasoning_effort low…max               output_config.effort
//	reasoning_effort none                  thinking disabled
//	reasoning_effort minimal               refused
//	no reasoning_effort                    ← thinking adaptive: the model decides
//	—                                      thinking with a budget: refused
//	max_completion_tokens, max_tokens      max_tokens
//	stop (white space alone: refused)      stop_sequences (more than four: refused)
//	temperature above 1                    refused, not clamped
//	top_k (compatible servers)             → top_k; the way back is refused, because many
//	                                         compatible servers ignore it in silence
//	user or safety_identifier              metadata.user_id (→ user)
//	service_tier auto, default             auto, standard_only
//	n, seed, logit_bias, logprobs,         refused, unless the value is the default
//	penalties, store, metadata, …
//	an assistant message at the end        refused: a prefill there, a finished turn here
//	a beginning by the assistant           refused by Anthropic's rule
//	citations, search results, server      refused
//	tools, containers, remote tools
//
// # What is left out knowingly
//
// Hints that change what an answer costs or how fast it comes but never what
// it says: prompt_cache_key, prompt_cache_retention, prompt_cache_options,
// cache_control and eager_input_streaming. (OpenAI's prompt_cache_breakpoint
// becomes a cache_control mark; the way back is not taken, because compatible
// servers do not know it.) White space alone as the text of a message, which
// Anthropic refuses. The order between texts and tool calls within one
// assistant turn, which OpenAI does not have. What the OpenAI SDK's helpers add
// to messages (parsed, parsed_arguments). The edits clear_thinking_* of
// context_management, whose subject is what the next paragraph decides.
//
// # Reasoning
//
// Anthropic's thinking reaches OpenAI clients as reasoning_content, the member
// that DeepSeek, vLLM, llama.cpp and others use, and in addition, signatures
// and redacted blocks included, as thinking_blocks: the convention of LiteLLM,
// whole in the answer's message and, in streams, whole in the chunk with the
// finish_reason. A client that sends its messages back as it got them thereby
// sends the signed blocks back, which Anthropic needs within a tool loop.
// Reasoning that comes back unsigned is left out: only Anthropic can sign, and
// it leaves out the thinking of other models itself.
//
// Reasoning of OpenAI-compatible servers (reasoning_content or reasoning, or
// Mistral's chunks) reaches Anthropic clients as thinking blocks with an empty
// signature, unless Answer.OmitReasoning. When they come back they go into
// Options.ReasoningField, or nowhere; signatures and redacted blocks mean
// nothing to other models.
//
// # Tokens
//
// Anthropic's input_tokens exclude what was read from and written to the
// cache, OpenAI's prompt_tokens include both. Without usage from the upstream,
// an Anthropic answer says zero, because its usage cannot be absent.
//
// # Stop reasons
//
//	end_turn, stop_sequence                            stop
//	max_tokens, pause_turn, model_context_window_exceeded  length
//	tool_use                                           tool_calls
//	refusal                                            content_filter
//
// The other way, stop is end_turn, tool_use if tools were called (some servers
// say stop then), or stop_sequence if the server tells which (vLLM's
// stop_reason); Mistral's model_length is model_context_window_exceeded. A
// reason nobody knows is an error, not a guess.
package translate
