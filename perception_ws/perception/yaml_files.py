"""YAML that people wrote, read so that what they meant is not lost in silence."""

from pathlib import Path
from typing import Any

import yaml

from perception.errors import ConfigError


class UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, of which YAML's own loader takes the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if key.tag != 'tag:yaml.org,2002:merge']
        twice = next((key for place, key in enumerate(keys) if key in keys[:place]), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(
                'in a mapping', node.start_mark, f'the key {twice!r} stands there twice; leave one out', node.start_mark
            )
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """The content of a file.

    Raises:
        ConfigError: If it cannot be read, or is no valid YAML.
    """
    try:
        return yaml.load(path.read_text(encoding='utf-8-sig'), UniqueKeyLoader)
    except OSError as error:
        raise ConfigError(f'Cannot read {path}: {error.strerror}.') from error
    except UnicodeDecodeError as error:
        raise ConfigError(f'{path} is no text in UTF-8 ({error}); save it as such.') from error
    except yaml.YAMLError as error:
        raise ConfigError(f'{path} is no valid YAML: {error}') from error
