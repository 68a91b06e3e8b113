// Sets up what the machine lacks.  node web/setup.mjs [--tests | --run TOOL ARGUMENTS...]
//
// The npm packages of package-lock.json. For the wasm build: Emscripten 3.1.60 or newer with CMake. On PATH they are used as they are; otherwise the packages of
// Debian 13 are unpacked into .toolchain/debian, from the mirror this machine's own apt uses, without root and without touching
// the system. Tools from there run in a mount namespace that sees the folder as / (toolchain() below).
// --run sets up and then runs emcc or cmake; web/emcc is short for it.
// With --tests also what the tests need of the system: a C compiler, SIMDe, the browsers (through apt-get, as root or by sudo).
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const HOME = join(ROOT, '.toolchain');
const DEBIAN = join(HOME, 'debian');
const OLDEST = [3, 1, 60];
const SUITE = 'trixie';
const PACKAGES = ['base-files', 'bash', 'coreutils', 'dash', 'sed', 'grep', 'emscripten', 'cmake', 'ninja-build'];
/** What the tests need of the system, by a file that shows it is there. */
const TEST_PACKAGES = {
  '/usr/bin/cmake': 'cmake', '/usr/bin/make': 'make', '/usr/bin/gcc': 'gcc', '/usr/include/stdio.h': 'libc6-dev',
  '/usr/include/simde/wasm/simd128.h': 'libsimde-dev', '/usr/bin/chromium': 'chromium', '/usr/bin/firefox-esr': 'firefox-esr',
  '/usr/bin/WebKitWebDriver': 'webkit2gtk-driver', '/usr/bin/Xvfb': 'xvfb',
};

/**
 * Runs a program and returns what it printed.
 * @param {string} command
 * @param {string[]} args
 * @param {import('node:child_process').SpawnSyncOptions} [options]
 */
function output(command, args, options) {
  const run = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 28, ...options });
  if (run.error || run.status !== 0) {
    const why = run.error?.message ?? `${run.stdout ?? ''}${run.stderr ?? ''}`.trim().split('\n').slice(-15).join('\n');
    throw new Error(`${[command, ...args].join(' ').slice(0, 300)} failed:\n${why}`);
  }
  return String(run.stdout ?? '');
}

/** @param {string} program */
function onPath(program) {
  return (process.env.PATH ?? '').split(':').some(dir => dir && existsSync(join(dir, program)));
}

/** The version of emcc on PATH as numbers, or null. */
function emccOnPath() {
  if (!onPath('emcc')) return null;
  const found = /(\d+)\.(\d+)\.(\d+)/.exec(spawnSync('emcc', ['--version'], { encoding: 'utf8' }).stdout ?? '');
  return found ? found.slice(1).map(Number) : null;
}

/**
 * @param {number[]} version
 * @param {number[]} oldest
 */
function atLeast(version, oldest) {
  for (let i = 0; i < oldest.length; i++) if (version[i] !== oldest[i]) return version[i] > oldest[i];
  return true;
}

/**
 * The command line that runs a tool of the toolchain in the working directory, which must be in the repository.
 * @param {string[]} command
 * @returns {[string, string[]]}
 */
export function toolchain(command) {
  const version = emccOnPath();
  if (version && atLeast(version, OLDEST) && onPath('cmake')) return [command[0], command.slice(1)];
  const here = join(DEBIAN, ROOT);
  // Mounts live and die with the process. Not being root outside is enough to be root inside, where the kernel allows it.
  const script = `PATH="$PATH:/usr/sbin:/sbin"; mount --rbind /dev "$1/dev" && mount --rbind /proc "$1/proc" && mount --bind "$2" "$3" &&
    cd "$1" && exec chroot . /usr/bin/env -i PATH=/usr/bin:/bin HOME=/tmp LC_ALL=C.UTF-8 sh -c 'cd "$0" && exec "$@"' "$4" "\${@:5}"`;
  mkdirSync(here, { recursive: true });
  const user = process.getuid?.() === 0 ? [] : ['--map-root-user'];
  return ['unshare', [...user, '--mount', 'bash', '-c', script, 'toolchain', DEBIAN, ROOT, here, process.cwd(), ...command]];
}

/** The Debian mirror of this machine's apt sources and the option that names its keys. */
function mirror() {
  const own = process.env.DEBIAN_MIRROR;
  const id = /^ID=(.*)$/m.exec(existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : '')?.[1];
  if (own) return own;
  if (id === 'debian') {
    const urls = output('apt-get', ['indextargets', '--format', '$(SITE)', 'Created-By: Packages', 'Origin: Debian', 'Label: Debian']);
    const url = urls.split('\n').find(Boolean) ?? fromSources();
    if (url) return url;
  }
  throw new Error(`Emscripten ${OLDEST.join('.')} or newer is not on PATH, and there is no Debian mirror among apt's sources to take one from. ` +
    'Install Emscripten and CMake, or set DEBIAN_MIRROR to the address of a Debian mirror.');
}

/** The first address in apt's own files: what indextargets does not know before the first `apt-get update`. */
function fromSources() {
  const dir = '/etc/apt/sources.list.d';
  const files = ['/etc/apt/sources.list', ...(existsSync(dir) ? readdirSync(dir).sort().map(name => join(dir, name)) : [])];
  for (const file of files.filter(existsSync)) {
    const found = /^(?:URIs:\s*|deb\s+(?:\[[^\]]*\]\s+)?)(\S+\/debian)\/?(?:\s|$)/m.exec(readFileSync(file, 'utf8'));
    if (found) return found[1];
  }
  return null;
}

/** Unpacks Debian's Emscripten into DEBIAN. What is half done is not found by the next run. */
function unpackToolchain() {
  const url = mirror();
  const apt = join(HOME, 'apt');
  const partial = `${DEBIAN}.partial`;
  for (const dir of [apt, partial]) rmSync(dir, { recursive: true, force: true });
  for (const dir of ['lists/partial', 'archives/partial', 'preferences']) mkdirSync(join(apt, dir), { recursive: true });
  mkdirSync(partial, { recursive: true });
  writeFileSync(join(apt, 'status'), '');
  const keys = '/usr/share/keyrings/debian-archive-keyring.gpg';
  writeFileSync(join(apt, 'sources.list'), `deb ${existsSync(keys) ? `[signed-by=${keys}] ` : ''}${url} ${SUITE} main\n`);
  const options = {
    'Dir::State': apt, 'Dir::State::lists': join(apt, 'lists'), 'Dir::State::status': join(apt, 'status'),
    'Dir::Cache': apt, 'Dir::Cache::archives': join(apt, 'archives'), 'Dir::Etc::sourcelist': join(apt, 'sources.list'),
    'Dir::Etc::sourceparts': '/dev/null', 'Dir::Etc::preferencesparts': join(apt, 'preferences'),
    'APT::Install-Recommends': 'false', 'APT::Sandbox::User': '', 'Debug::NoLocking': 'true', 'APT::Keep-Downloaded-Packages': 'true',
  };
  const flags = Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  console.log(`setup: Emscripten of Debian ${SUITE} into ${DEBIAN} (about 2.4 GB, a minute or two)`);
  try {
    output('apt-get', [...flags, '-q', 'update', '--error-on=any']);
    output('apt-get', [...flags, '-q', '-y', '--download-only', 'install', ...PACKAGES]);
    const archives = join(apt, 'archives');
    const debs = readdirSync(archives).filter(name => name.endsWith('.deb'));
    // base-files first: it makes /bin and /lib the links that the others expect.
    debs.sort((a, b) => Number(b.startsWith('base-files_')) - Number(a.startsWith('base-files_')));
    for (const deb of debs) {
      output('dpkg-deb', ['--extract', join(archives, deb), partial]);
      rmSync(join(archives, deb));
    }
    rmSync(apt, { recursive: true, force: true });
    renameSync(partial, DEBIAN);
  } catch (error) {
    for (const dir of [apt, partial]) rmSync(dir, { recursive: true, force: true });
    throw error;
  }
}

/** Installs the packages that building and testing use, as package-lock.json has them. */
export function setupPackages() {
  const installed = join(ROOT, 'node_modules/.package-lock.json');
  if (existsSync(installed) && statSync(installed).mtimeMs >= statSync(join(ROOT, 'package-lock.json')).mtimeMs) return;
  console.log('setup: npm ci');
  output('npm', ['ci', '--no-audit', '--no-fund'], { cwd: ROOT });
  utimesSync(installed, new Date(), new Date());
}

/** Sets up the wasm toolchain; at once when it is there. */
export function setupToolchain() {
  const version = emccOnPath();
  if (version && !atLeast(version, OLDEST)) console.log(`setup: emcc ${version.join('.')} on PATH is older than ${OLDEST.join('.')}, not used`);
  else if (version && !onPath('cmake')) console.log('setup: emcc is on PATH but cmake is not; both are taken from Debian');
  else if (version) return;
  if (existsSync(DEBIAN)) return;
  if (!['apt-get', 'dpkg-deb', 'unshare'].every(onPath)) {
    throw new Error(`Emscripten ${OLDEST.join('.')} or newer and CMake are not on PATH. Only on Debian can the set-up fetch them itself; please install them.`);
  }
  unpackToolchain();
  const [command, args] = toolchain(['emcc', '--version']);
  const run = spawnSync(command, args, { encoding: 'utf8' });
  if (run.status !== 0) {
    throw new Error(`The toolchain is in ${DEBIAN}, but this system does not let a program see it as its root (user and mount namespaces). ` +
      `Run as root or allow them, or install Emscripten ${OLDEST.join('.')} or newer.\n${run.stderr}`);
  }
}

/** Installs what the tests need of the system. */
export function setupTests() {
  const names = Object.entries(TEST_PACKAGES).filter(([file]) => !existsSync(file) && !onPath(basename(file))).map(([, name]) => name);
  if (!names.length) return;
  const sudo = process.getuid?.() === 0 ? [] : ['sudo', '-n'];
  console.log(`setup: apt-get install ${names.join(' ')}`);
  try {
    if (!onPath('apt-get')) throw new Error('there is no apt-get here');
    const [command, ...args] = [...sudo, 'env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', '-q'];
    output(command, [...args, 'update']);
    output(command, [...args, '-y', '--no-install-recommends', 'install', ...names]);
  } catch (error) {
    throw new Error(`The tests need these Debian packages: ${names.join(' ')}. Installing them failed.`, { cause: error });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    const [mode, ...rest] = process.argv.slice(2);
    setupToolchain();
    if (mode !== '--run') setupPackages();
    if (mode === '--tests') setupTests();
    if (mode === '--run') process.exitCode = spawnSync(...toolchain(rest), { stdio: 'inherit' }).status ?? 1;
  } catch (error) {
    console.error(`setup: ${error instanceof Error ? error.message : error}`);
    process.exitCode = 1;
  }
}
