/** Where the fixtures are, and which hold cases for the generic test. */
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export const folder = fileURLToPath(new URL('../reference/fixtures', import.meta.url));
// Not lists of cases: their own tests read them.
const plain = ['emoji.safetensors', 'emoji_text.safetensors', 'experts.safetensors', 'open_clip_tiny.safetensors', 'rn50_generated.safetensors'];
export const files = readdirSync(folder).filter((file) => file.endsWith('.safetensors') && !plain.includes(file)).sort();
