// Package wire knows the JSON and SSE shapes of the OpenAI and Anthropic HTTP
// APIs, read in one pass without decoding them whole.
//
// The gateway decides on what Scan reads; an upstream acts on what its own
// parser reads. Any difference between the two is a way around policy, so Scan
// refuses whatever parsers are known to read differently, and where it cannot
// know what something means, it says so as a risk.
//
// # Refused
//
// Anything but RFC 8259 in valid UTF-8 without a byte order mark; NUL, also
// escaped; lone surrogates; numbers no 64-bit float holds; more than 128
// levels. In objects whose members are interpreted (the top level,
// stream_options, messages, their parts, tools): a known key given twice, and
// a key that equals a significant one only if case (with Unicode's folding),
// '_' and '-' are ignored. Keys are compared after unescaping. Tool schemas,
// arguments, metadata and unknown top-level fields are data: their keys are
// free. So is a repeated unknown key, because every occurrence is examined.
//
// # Risks
//
// A request is not refused here for what it asks. Scan lists what makes an
// upstream fetch, store, look up or call something, or process elsewhere than
// decided, and the caller refuses what policy does not name. Ids are risks
// even where the vendor keeps to its own storage, because many organisations
// share one account there, and one's id is another's data.
//
//	store                   keeps the answer; an absent store on the Responses API
//	                        stores as well: set Edit.ForceNoStore
//	background              runs on and is kept after the caller has gone
//	previous_response_id, conversation, item_reference, prompt, thread,
//	diagnostics, audio_id, voice_id, file_id, container, cached_content, agent_id
//	                        look up what is kept at the vendor; what they bring
//	                        in is not in InputBytes
//	prompt_cache_retention  keeps derived data for up to a day ("in_memory" does not)
//	image_url, file_url, audio_url, video_url, url
//	                        fetch; anything but a data: URL, local paths included
//	schema_ref              a $ref out of a JSON schema, which may be fetched
//	web_search_options, search_parameters, search_settings, enable_search,
//	plugins, data_sources, compound_custom, connectors, mcp_servers
//	                        search or call
//	tools.<type>            a tool the client does not carry out. OpenAI: any type
//	                        but function and custom. Anthropic: any but custom and
//	                        the dated bash, text_editor, computer, memory,
//	                        computer_toolset, browser_toolset. Dates are dropped:
//	                        "tools.web_search". A type that is not a plain word is
//	                        "tools.unknown", an OpenAI tool without type, name and
//	                        function "tools.untyped"
//	content.<type>          a part or item of a kind not known here, or one that
//	                        makes a hosted tool go on (server_tool_use, mcp_*)
//	inference_geo, workspace_id, user_profile_id, models, route, provider,
//	fallbacks, fallback_credit_token
//	                        choose another place, account or model than decided
//	kv_transfer_params, logits_processors, chat_template, deferred, extra_body
//	                        make compatible servers reach out, run what the client
//	                        sends, keep the answer, or hide any of the above
//
// Not risks, with the reason where it is not plain: metadata (a label of what
// is stored, and nothing is), moderation (the vendor's own classifier, nothing
// kept), prompt_cache_key, prompt_cache_options and cache_control (minutes, in
// memory), context_management and compaction (the model shortens its own
// input), tool_choice (chooses, adds nothing), include, service_tier and speed
// (a price: see PaidTier), user, safety_identifier and metadata.user_id
// (opaque ids the client chose), replayed results of hosted tools (context,
// not orders). TestEveryDocumentedFieldIsClassified has the whole list.
//
// # Streams
//
// An injected include_usage adds one event with no choices, which
// Chunk.UsageOnly marks, and "usage":null on the others, which stays.
package wire
