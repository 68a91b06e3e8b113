"""The Python of js/MODELS.md, run as it stands there: writes fixtures/guide, whose metadata has the SHA-256 of that Python."""
import hashlib
import os
import re
import subprocess
import sys
import tempfile

from safetensors.torch import load_file, save_file

from fixture import FOLDER

GUIDE = os.path.join(os.path.dirname(os.path.abspath(__file__)), '../../js/MODELS.md')


def main():
    with open(GUIDE, encoding='utf8') as file:
        blocks = re.findall(r'^```python\n# (\S+)\n(.*?)^```$', file.read(), re.M | re.S)
    digest = hashlib.sha256(''.join(text for _, text in blocks).encode()).hexdigest()
    target = os.path.join(FOLDER, 'guide')
    os.makedirs(target, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, text in blocks:
            with open(os.path.join(folder, name), 'w', encoding='utf8') as file:
                file.write(text)
        subprocess.run([sys.executable, 'make_fixtures.py'], cwd=folder, check=True)
        for name in sorted(os.listdir(folder)):
            if name.endswith('.safetensors'):
                path = os.path.join(target, name)
                save_file(load_file(os.path.join(folder, name)), path, metadata={'python': digest})
                os.chmod(path, 0o644)
                print(f'guide/{name}: {os.path.getsize(path) // 1024} kB')


if __name__ == '__main__':
    main()
