"""open_clip without torchvision, of which no CPU wheel matches this PyTorch. What is used here (the models) never calls it; open_clip only
imports some names from it for its image transforms and for timm's backbones."""
import importlib.abc
import importlib.machinery
import sys
import types


class _Attributes(type):
    def __getattr__(cls, name):
        if name.startswith('__'):
            raise AttributeError(name)
        return name


class _Anything(types.ModuleType):
    __path__ = []

    def __getattr__(self, name):
        if name.startswith('__'):
            raise AttributeError(name)
        return _Attributes(name, (), {})


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    absent = ('torchvision', 'timm', 'huggingface_hub')

    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in self.absent:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return _Anything(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.append(_Finder())   # last: an installed package wins
