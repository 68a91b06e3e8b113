/** The cleaning of a text before CLIP's tokenizers see it. */

/** HTML 4's names of U+00A0 to U+00FF, in order. */
const LATIN = ('nbsp iexcl cent pound curren yen brvbar sect uml copy ordf laquo not shy reg macr deg plusmn sup2 sup3 acute micro para middot cedil sup1 ordm '
  + 'raquo frac14 frac12 frac34 iquest Agrave Aacute Acirc Atilde Auml Aring AElig Ccedil Egrave Eacute Ecirc Euml Igrave Iacute Icirc Iuml ETH Ntilde Ograve '
  + 'Oacute Ocirc Otilde Ouml times Oslash Ugrave Uacute Ucirc Uuml Yacute THORN szlig agrave aacute acirc atilde auml aring aelig ccedil egrave eacute ecirc euml '
  + 'igrave iacute icirc iuml eth ntilde ograve oacute ocirc otilde ouml divide oslash ugrave uacute ucirc uuml yacute thorn yuml').split(' ');

/** Characters of HTML's names; the rarer ones are not here. @type {Record<string, string>} */
const NAMED = {
  amp: '&', lt: '<', gt: '>', quot: '"', apos: "'", lsquo: '\u2018', rsquo: '\u2019', ldquo: '\u201c', rdquo: '\u201d', ndash: '\u2013', mdash: '\u2014', hellip: '\u2026',
  bull: '\u2022', euro: '\u20ac', trade: '\u2122', ...Object.fromEntries(LATIN.map((name, i) => [name, String.fromCodePoint(0xa0 + i)])),
};

/** Of a reference that stands for no character. */
const REPLACEMENT = '\ufffd';

/**
 * A text as open_clip cleans it: HTML's references resolved, typographic quotes made straight, ligatures and full-width letters taken apart,
 * control characters dropped, composed (NFC), runs of white space made one blank. Upper and lower case are the tokenizer's business.
 *
 * What ftfy, which open_clip uses, does beyond that is left out: it also repairs text that was decoded by the wrong encoding. Of HTML's names
 * those of Latin letters and common punctuation are known.
 * @param {string} text
 * @returns {string}
 */
export function clean(text) {
  let result = wellFormed(text);
  if (!result.includes('<')) result = unescape(result);   // as ftfy: with a "<" it may be code
  result = result.replace(/\x1b\[[\d;]*[a-zA-Z]/g, '')
    .replace(/[\u0132\u0133\u0149\u01c4-\u01cc\u01f1-\u01f3\ufb00-\ufb06\uff01-\uffef\u3000]/g, (character) => character.normalize('NFKC'))
    .replace(/[\u02bc\u2018-\u201b]/g, "'").replace(/[\u201c-\u201f]/g, '"')
    .replace(/[\x00-\x08\x0b\x0e-\x1b\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]/g, '')
    .normalize('NFC');
  return unescape(unescape(result)).replace(/[\s\x1c-\x1f\x85]+/g, ' ').trim();
}

/** Halves of surrogate pairs are no text. @param {string} text @returns {string} */
const wellFormed = (text) => text.replace(/\p{Cs}/gu, REPLACEMENT);

/** @param {string} text */
function unescape(text) {
  return text.replace(/&(?:#x([\da-f]{1,6})|#(\d{1,7})|([a-z]+\d*));/gi, (whole, hex, decimal, name) => {
    if (name) return Object.hasOwn(NAMED, name) ? NAMED[name] : whole;
    const code = parseInt(hex ?? decimal, hex ? 16 : 10);
    return code === 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ? REPLACEMENT : String.fromCodePoint(code);
  });
}
