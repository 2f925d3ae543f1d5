//! Chat templates for files that have none, chosen by the markers in their vocabulary.

use gguf::Metadata;

use crate::vocabulary::TOKENS;

const CHATML: &str = "\
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}";

/// Gemma knows no system role: its words go in front of the first turn.
const GEMMA: &str = "\
{{- bos_token -}}
{%- set ns = namespace(system='') -%}
{%- for message in messages -%}
{%- if message.role == 'system' -%}{%- set ns.system = ns.system + message.content + '\n\n' -%}
{%- else -%}
{{ '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\n' }}
{{- ns.system + message.content + '<end_of_turn>\n' -}}
{%- set ns.system = '' -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}";

const LLAMA3: &str = "\
{{- bos_token -}}
{%- for message in messages -%}
{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' + message.content + '<|eot_id|>' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif -%}";

const PLAIN: &str = "\
{{- bos_token -}}
{%- for message in messages -%}
{{ message.role + ': ' + message.content + '\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'assistant:' }}{%- endif -%}";

/// The marker by which a vocabulary shows its format, and the template.
const BY_MARKER: &[(&str, &str)] =
    &[("<|im_start|>", CHATML), ("<start_of_turn>", GEMMA), ("<|start_header_id|>", LLAMA3)];

/// The template for a file without one.
pub(crate) fn choose(metadata: &Metadata) -> &'static str {
    let tokens = metadata.strings(TOKENS).ok().flatten().unwrap_or_default();
    let has = |marker: &str| tokens.iter().any(|token| token == marker);
    BY_MARKER.iter().find(|(marker, _)| has(marker)).map_or(PLAIN, |(_, template)| template)
}
